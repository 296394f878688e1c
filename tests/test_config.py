"""The configuration: closed, frozen, and plain about what is wrong."""

import re

import pytest
from pydantic import ValidationError

from medssl.config import Config, merge, parse_overrides, resolve, to_yaml
from medssl.errors import UserError
from medssl.plain_yaml import parse_yaml, read_yaml
from medssl.runs import presets


@pytest.mark.parametrize("preset", sorted(file.stem for file in presets.folder().glob("*.yaml")))
def test_every_preset_is_complete_and_survives_being_written_and_read(preset, tmp_path):
    values = presets.load(preset)
    config = resolve(values)
    assert set(values) == set(Config.model_fields)
    assert set(values["train"]) | {"steps", "minutes", "workers", "max_bad_steps"} == set(type(config.train).model_fields)
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert resolve(read_yaml(tmp_path / "c.yaml")) == config


def test_every_wrong_key_is_told_at_once_with_its_nearest_name():
    with pytest.raises(UserError) as told:
        resolve({"trian": {}, "train": {"epoch": 3, "lr": -1}, "method": {"name": "pnnclr", "temprature": 1}})
    message = str(told.value)
    for text in ("'train'", "'epochs'", "train.lr", "'temperature'"):
        assert text in message


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("method={name: pnnclr, momentum: fast}", r"method: momentum: Input should be a valid number.*, or 'auto' \(given: 'fast'\)"),
        ("method={name: pnnclr, momentum: 2}", r"method: momentum: Input should be less than or equal to 1, or 'auto' \(given: 2\)"),
        ("data.size=[64]", r"data\.size: Input should be a valid integer, or in a list: Field required \(given: \[64\]\)"),
        ("data.size=[5, 5, 5]", r"data\.size: .*, or in a list: greater than or equal to 8 \(given: \[5, 5, 5\]\)"),
        ("train.minutes=long", r"train\.minutes: Input should be a valid number.* \(given: 'long'\)"),
    ],
)
def test_a_value_of_no_type_that_a_key_may_have_is_one_error_with_the_name_of_the_key(assignment, told):
    with pytest.raises(UserError) as error:
        resolve(parse_overrides([assignment]))
    assert re.fullmatch(rf"The configuration is wrong:\n  {told}", str(error.value))


def test_numbers_in_scientific_notation_are_numbers_and_a_key_stands_once():
    assert parse_yaml("lr: 1e-3\nn: 2.5E2", "x") == {"lr": 0.001, "n": 250.0}
    with pytest.raises(UserError, match=r"'lr' occurs twice, line 1"):
        parse_yaml("lr: 1\nlr: 2", "x")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "a: [", "a: &x [*x"])
def test_anything_but_plain_yaml_is_refused(text):
    with pytest.raises(UserError, match="not valid YAML"):
        parse_yaml(text, "x")


def test_overrides_nest_and_change_one_option_of_a_plugin_or_the_plugin():
    base = {"method": {"name": "pnnclr", "alpha": 0.9, "temperature": 0.2}}
    assert merge(base, parse_overrides(["method.alpha=0.5"]))["method"] == {"name": "pnnclr", "alpha": 0.5, "temperature": 0.2}
    assert merge(base, parse_overrides(["method=nnclr"]))["method"] == {"name": "nnclr"}
    assert merge({"method": "pnnclr"}, parse_overrides(["method.alpha=0.5"]))["method"] == {"name": "pnnclr", "alpha": 0.5}
    named_last = parse_overrides(["backbone.model=resnet50", "backbone.name=timm"])
    assert named_last == {"backbone": {"model": "resnet50", "name": "timm"}}
    name_last = parse_overrides(["method.width=64", "views.recipe.flip_p=0.5", "method=simclr", "views.recipe=natural", "method.width=32"])
    assert name_last == {"method": {"name": "simclr", "width": 32}, "views": {"recipe": {"name": "natural", "flip_p": 0.5}}}
    assert parse_overrides(["data.size=64", "data.channels=3"]) == {"data": {"size": 64, "channels": 3}}


@pytest.mark.parametrize(("text", "labels"), [("0.1", "0.1"), ("10%", "10%"), ("[1pct, 0.5]", "1pct,0.5"), ("1.0", "1.0")])
def test_label_fractions_may_be_numbers_and_lists_in_a_setting(text, labels):
    assert resolve(parse_overrides([f"finetune.labels={text}"])).finetune.labels == labels


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 3
