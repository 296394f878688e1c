"""What a configuration is made of: the preset, the data, and what the user said."""

from contextlib import nullcontext

import nibabel
import numpy as np
import pytest

from medssl.config import Data
from medssl.errors import UserError
from medssl.runs.resolve_config import absolute_path, check_place, flags_and_sets, list_source, resolve_config

SMALL = ["data.source.patients=4", "data.source.size=64"]  # of the phantoms that are looked at


class Silent:
    def say(self, text): ...
    def warn(self, text): ...
    def progress(self, task, done, total, facts=None): ...


def method_of(preset, method=None, sets=()):
    return resolve_config(Silent(), "phantom", preset, flags_and_sets(method, None, None, [*SMALL, *sets]))[0].method


def test_another_method_keeps_the_presets_sizes_and_has_its_own_paper_values():
    preset = method_of("chest_xray_cpu")
    other = method_of("chest_xray_cpu", "byol")
    assert (preset.hidden, preset.width, preset.support_size) == (1024, 128, "auto")
    assert (other.name, other.hidden, other.width, other.momentum) == ("byol", 1024, 128, 0.996)
    assert method_of("chest_xray_cpu", "nnclr").width == 128
    assert method_of("chest_xray_cpu", "moco").temperature == 0.2, "temperature belongs to the method"


def test_what_is_set_goes_before_the_presets_sizes():
    assert method_of("chest_xray_cpu", "nnclr", ["method.width=32"]).width == 32
    assert method_of("chest_xray_cpu", None, ["method.name=nnclr", "method.hidden=64"]).hidden == 64


def test_another_network_gets_neither_stem_nor_arguments_of_the_presets_network():
    def backbone(*sets):
        return resolve_config(Silent(), "phantom", "chest_xray_cpu", flags_and_sets(None, None, None, [*SMALL, *sets]))[0].backbone

    assert backbone().arguments == {"channels": [32, 64, 128, 256]}
    assert backbone("backbone.model=vit_tiny_patch16_224").arguments == {}
    assert backbone("backbone.model=vit_tiny_patch16_224", "backbone.arguments={depth: 1}").arguments == {"depth": 1}
    assert backbone("backbone.model=vit_tiny_patch16_224").stem == "auto"
    assert backbone("backbone.stem=small").arguments == {"channels": [32, 64, 128, 256]}


def test_a_number_of_epochs_is_the_length_whatever_the_presets_own_with_its_share_of_warm_up(tmp_path):
    def train(*sets, preset="chest_xray_cpu"):
        return resolve_config(Silent(), "phantom", preset, flags_and_sets(None, None, None, [*SMALL, *sets]))[0].train

    assert (train().epochs, train().min_steps, train().warmup_epochs) == (120, 500, 12)
    for asked in ("train.epochs=5", "epochs=5"):
        assert (train(asked).epochs, train(asked).min_steps, train(asked).warmup_epochs) == (5, 0, 0.5)
    assert train("epochs=5", "min_steps=7").min_steps == 7
    (own := tmp_path / "mine.yaml").write_text("train: {steps: 9}\n", "utf-8")
    assert train("epochs=5", preset=str(own)).steps is None
    assert train(preset=str(own)).steps == 9


@pytest.mark.parametrize("wrong", ["method=5", "method=nnclrr", "method.widht=3"])
def test_a_wrong_method_is_the_users_error(wrong):
    with pytest.raises(UserError):
        method_of("chest_xray_cpu", None, [wrong])


def test_a_users_own_preset_may_name_its_method_alone(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("method: pnnclr\n", "utf-8")
    assert method_of(str(own), "simclr").name == "simclr"


def test_the_presets_own_settings_of_the_source_and_its_windows_are_those_that_list_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    preset = tmp_path / "own.yaml"
    preset.write_text("data: {size: 64, window: [lung, bone], source: {name: phantom, patients: 4, size: 64, finding: interstitial}}\n")
    config, source = resolve_config(Silent(), "phantom", str(preset), {})
    assert len({record.patient for record in source.records}) == 4
    assert {record.labels["label"] for record in source.records} == {"interstitial", "normal"}
    assert config.data.channels == 2
    config, source = resolve_config(Silent(), "phantom", str(preset), {"data": {"source": {"patients": 5}}})
    assert len({record.patient for record in source.records}) == config.data.source.patients == 5


def test_the_limits_of_the_data_are_those_of_the_listing_unless_the_source_has_its_own(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((30, 20, 3), np.int16), np.eye(4)), tmp_path / "scan.nii")
    small, large = {"max_pixels": 100}, {"max_pixels": 1000}
    for limits, own, found in ((small, {}, False), (large, {}, True), (small, large, True), (large, small, False)):
        data = Data.model_validate({"path": str(tmp_path), "source": {"name": "nifti", "limits": own}, "limits": limits})
        with nullcontext() if found else pytest.raises(UserError, match="too_many_pixels"):
            assert len(list_source(data).records) == 3


def test_the_path_of_images_is_stored_from_the_root_and_other_names_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    assert absolute_path("images") == str(tmp_path / "images")
    assert absolute_path("medmnist:pneumoniamnist") == "medmnist:pneumoniamnist"
    for path, source in (("phantom", "phantom"), ("images", "folder"), ("medmnist:pneumoniamnist", "medmnist")):
        check_place(Data(path=path, source=source), tmp_path)
    with pytest.raises(UserError, match="Say where the same images are now: --data PATH"):
        check_place(Data(path="absent", source="folder"), tmp_path)
