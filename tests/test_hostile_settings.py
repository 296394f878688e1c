"""Settings that are hostile, huge or impossible: one message each, with the place, and nothing is built of them."""

from pathlib import Path

import pytest

from medssl.config import parse_overrides, resolve
from medssl.errors import UserError
from medssl.plain_yaml import parse_yaml, read_yaml

LEVELS = [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
BOMB = "\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *LEVELS])


@pytest.mark.fault("C8")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases that stand for"),
        ("a: &a [*a]", "contains itself"),
        ("seed: " + "[" * 5000 + "]" * 5000, "too many brackets"),
        ("seed: " + "[" * 3000, "too many brackets"),
        ("seed: " + "9" * 5000, "not valid YAML"),
        ("seed: 2024-99-99", "not valid YAML"),
        ("seed: 2024-02-30 25:61:61", "not valid YAML"),
    ],
)
def test_hostile_yaml_is_one_message(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        parse_yaml(text, "--set seed")
    assert len(str(refused.value)) < 800


@pytest.mark.fault("C8")
def test_a_preset_that_is_no_utf_8_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("preset: Müller".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.fault("C8")
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.limits.seconds=.inf", "data.limits.seconds: .*finite"),
        ("data.limits.seconds=.nan", "data.limits.seconds: .*finite"),
        ("data.limits.memory_bytes=1e400", "data.limits.memory_bytes"),
        ("train.lr=.inf", "train.lr: .*finite"),
        ("data.split_seed=99999999999999999999999999", "split_seed is a number of 26 digits"),
        ("train.steps=99999999999999999999999999", "steps is a number of 26 digits"),
        ("monitor.knn_neighbours=99999999999999999999999999", "knn_neighbours is a number of 26 digits"),
        ("method.support_size=99999999999999999999999999", "support_size is a number of 26 digits"),
        ("method.width=99999999999999999999999999", "width is a number of 26 digits"),
        ("train.workers=100000", "train.workers: .*less than or equal to 256"),
        ("backbone.arguments={checkpoint_path: /etc/passwd}", "checkpoint_path would load a file"),
        ("backbone.arguments={pretrained_cfg: {file: /etc/passwd}}", "pretrained_cfg would load a file"),
        ("backbone.arguments={pretrained_cfg_overlay: {file: x}}", "pretrained_cfg_overlay would load a file"),
        ("backbone.arguments={cache_dir: /tmp}", "cache_dir would load a file"),
    ],
)
def test_a_setting_that_cannot_be_is_one_message_with_its_key(setting: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        resolve(parse_overrides(["method.name=pnnclr", "backbone.name=timm", setting]))
    assert len(str(refused.value)) < 800
