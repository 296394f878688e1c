"""Each format that is quick to write: it gives the encoder's features by the lines that the export says, and its traps are closed."""

import json
import re
from typing import Any

import pytest
import timm
import torch
from exporting import CARD, TINY, agree, make_encoder, type_in
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_model_data_config

from medssl.encoder import artefact
from medssl.encoder.export import FORMATS, Options, export, formats
from medssl.errors import UserError

FULL = {"name": "timm", "model": "resnet18", "stem": "own"}
QUICK = ("timm", "hf", "medssl")
FAULTS = {
    "a difference that is no number passes": (
        "encoder/export/formats.py",
        "if not difference <= module.TOLERANCE:",
        "if difference > module.TOLERANCE:",
    ),
}


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """The folder of a timm export, to copy or to read."""
    out = tmp_path_factory.mktemp("exported") / "chest"
    return out, export(tiny[0], tiny[1], "timm", out, Options())


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_lines_that_are_said_give_the_encoders_features(tmp_path, name, channels):
    encoder, card = make_encoder(tmp_path, TINY, channels)
    done = export(encoder, card, name, tmp_path / "out", Options())
    images = torch.rand(5, channels, 16, 16)
    assert agree(type_in(done.usage, images)["features"], encoder, images)
    assert 0 <= done.difference <= done.tolerance == 1e-5
    assert done.files == (tmp_path / "out",)


@pytest.mark.parametrize("backbone", [{**FULL, "stem": "small"}, {**FULL, "stem": "medium"}, {**FULL, "model": "test_vit", "stem": "auto"}])
def test_stems_of_small_images_and_transformers_keep_their_features_in_timm(tmp_path, backbone):
    if backbone["stem"] != "auto":
        backbone = {**backbone, "arguments": TINY["arguments"]}
    size = 16 if backbone["stem"] != "auto" else 32
    encoder, card = make_encoder(tmp_path, backbone, 1, size)
    done = export(encoder, card, "timm", tmp_path / "out", Options())
    images = torch.rand(3, 1, size, size)
    assert agree(type_in(done.usage, images)["features"], encoder, images)
    if backbone["stem"] != "auto":
        with pytest.raises(RuntimeError, match=r"size mismatch for conv1\.weight"):
            timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
        readme = (tmp_path / "out" / "README.md").read_text()
        lines = done.usage.replace(str(tmp_path / "out"), "PATH")
        assert lines in readme and "network.conv1 = torch.nn.Conv2d(1, 64, 3, padding=1, bias=False)" in lines
        assert ("network.maxpool" in lines) == (backbone["stem"] == "small")


def test_timm_builds_maps_of_features_and_a_new_classifier_from_the_folder(exported, tiny):
    out, _ = exported
    network: Any = timm.create_model(f"local-dir:{out}", pretrained=True, features_only=True)
    maps = network(torch.rand(2, 1, 16, 16))
    assert [tuple(each.shape[:2]) for each in maps] == [(2, 64), (2, 8), (2, 8), (2, 16), (2, 16)]
    network = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0)
    network.reset_classifier(2)
    assert network(torch.rand(2, 1, 16, 16)).shape == (2, 2)
    data = resolve_model_data_config(network)
    assert data["input_size"] == (1, 16, 16) and data["crop_pct"] == 1.0
    assert data["mean"] == tiny[1]["mean"] and data["std"] == tiny[1]["std"]


@pytest.mark.parametrize("classes", [0, 2])
def test_a_missing_tensor_is_an_error_of_timm_whatever_the_number_of_classes(exported, tmp_path, classes):
    out, _ = exported
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "config.json").write_bytes((out / "config.json").read_bytes())
    tensors = load_file(out / "model.safetensors")
    del tensors["layer2.0.conv1.weight"]
    save_file(tensors, copied / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"Missing key.*layer2\.0\.conv1\.weight"):
        timm.create_model(f"local-dir:{copied}", pretrained=True, num_classes=classes)


def test_without_pretrained_the_network_is_random(exported, tiny):
    images = torch.rand(2, 1, 16, 16)
    network = timm.create_model(f"local-dir:{exported[0]}", pretrained=False).eval()
    assert not agree(network((images - tiny[1]["mean"][0]) / tiny[1]["std"][0]), tiny[0], images, share=0.1)


@pytest.mark.parametrize("name", ["torchvision", "monai"])
def test_other_widths_are_refused_with_the_formats_that_can(tiny, tmp_path, name):
    with pytest.raises(UserError, match=f"The format {name} cannot hold this encoder: its resnet18 has other widths") as refused:
        export(tiny[0], tiny[1], name, tmp_path / "out.safetensors", Options())
    assert str(refused.value).endswith("These formats can: timm, hf, bundle, onnx, torch-export, mlflow, medssl.")
    assert list(tmp_path.iterdir()) == []


def test_other_networks_than_resnets_and_densenets_are_refused(tmp_path):
    encoder, card = make_encoder(tmp_path, {"name": "timm", "model": "test_convnext", "stem": "own"}, 1, 32)
    with pytest.raises(UserError, match="test_convnext is no network of torchvision with the same tensors"):
        export(encoder, card, "torchvision", tmp_path / "out.safetensors", Options())
    with pytest.raises(UserError, match="test_convnext is no network of MONAI with the same tensors"):
        export(encoder, card, "monai", tmp_path / "out.safetensors", Options())


@pytest.mark.parametrize(
    ("model", "stem", "channels"),
    [
        ("resnet18", "own", 1),
        pytest.param("resnet18", "small", 3, marks=pytest.mark.slow),
        pytest.param("densenet121", "own", 1, marks=pytest.mark.slow),
    ],
)
def test_torchvision_has_the_features_by_the_lines_that_are_said(tmp_path, model, stem, channels):
    encoder, card = make_encoder(tmp_path, {"name": "timm", "model": model, "stem": stem}, channels, 32)
    done = export(encoder, card, "torchvision", tmp_path / "chest.safetensors", Options())
    images = torch.rand(2, channels, 32, 32)
    assert agree(type_in(done.usage, images)["features"], encoder, images)
    assert done.files == (tmp_path / "chest.safetensors", tmp_path / "chest.safetensors.md")
    with safe_open(done.files[0], "pt") as file:
        assert json.loads(file.metadata()["card"])["mean"] == card["mean"]


def test_tensors_that_load_strictly_and_answer_otherwise_are_not_written(tmp_path):
    """The names and shapes of this network are torchvision's, but its activation is another one."""
    (tmp_path / "run").mkdir()
    encoder, card = make_encoder(tmp_path / "run", {**FULL, "arguments": {"act_layer": "gelu"}}, 1, 32)
    with pytest.raises(UserError, match=r"torchvision gives other features: the largest difference is .* 1e-05 is accepted"):
        export(encoder, card, "torchvision", tmp_path / "chest.safetensors", Options())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_weights_that_are_no_numbers_are_not_exported(tmp_path):
    (tmp_path / "run").mkdir()
    encoder, card = make_encoder(tmp_path / "run", TINY)
    with torch.no_grad():
        next(encoder.backbone.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="other features: the largest difference is nan"):
        export(encoder, card, "timm", tmp_path / "out", Options())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("harm", ["changed tensor", "other architecture", "other mean"])
def test_the_check_sees_what_does_not_belong_to_the_encoder(exported, tiny, tmp_path, harm):
    out, _ = exported
    copied, card = tmp_path / "copied", dict(tiny[1])
    copied.mkdir()
    config, tensors = json.loads((out / "config.json").read_text()), load_file(out / "model.safetensors")
    if harm == "changed tensor":
        tensors["layer3.0.conv1.weight"] *= 1.01
    elif harm == "other architecture":
        config["architecture"] = "resnet26"
    else:
        card["mean"] = [card["mean"][0] + 0.01]
    (copied / "config.json").write_text(json.dumps(config))
    save_file(tensors, copied / "model.safetensors")
    if harm == "other architecture":
        with pytest.raises(RuntimeError, match=r"Error.s. in loading state_dict"):
            FORMATS["timm"].check(copied, tiny[0], card, Options())
    else:
        assert FORMATS["timm"].check(copied, tiny[0], card, Options()) > 1e-4


def test_an_export_of_an_export_and_of_an_old_card_is_possible(tiny, tmp_path):
    export(tiny[0], tiny[1], "medssl", tmp_path / "first", Options(with_hashes=True))
    encoder, card = artefact.load(tmp_path / "first")
    assert card["export"]["format"] == "medssl"
    export(encoder, card, "medssl", tmp_path / "second", Options(with_hashes=True))
    assert artefact.load(tmp_path / "second")[1]["pretraining"] == card["pretraining"]
    old = {name: value for name, value in tiny[1].items() if name not in ("schema", "citation", "licence", "method", *CARD)}
    export(tiny[0], old, "medssl", tmp_path / "third", Options())
    assert agree(artefact.load(tmp_path / "third")[0](images := torch.rand(2, 1, 16, 16)), tiny[0], images)


def test_a_format_that_is_none_names_the_nearest_one(tiny, tmp_path):
    with pytest.raises(UserError, match=r"--format torch-exprt: there is no such format. Did you mean 'torch-export'\?"):
        export(tiny[0], tiny[1], "torch-exprt", tmp_path / "x", Options())


def test_a_missing_package_is_answered_with_the_line_that_installs_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match=re.escape('onnx needs onnxscript. Install with: pip install "medssl[onnx]"')):
        export(tiny[0], tiny[1], "onnx", tmp_path / "x.onnx", Options())


def test_the_preparation_is_refused_where_there_is_no_place_for_it(tiny, tmp_path):
    with pytest.raises(UserError, match="--with-preparation belongs to the format onnx; timm has no place for it"):
        export(tiny[0], tiny[1], "timm", tmp_path / "x", Options(with_preparation=True))


def test_a_place_that_cannot_be_used_is_refused(tiny, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious.txt").touch()
    (tmp_path / "file").touch()
    for name, out, overwrite, message in (
        ("timm", "folder", False, "folder exists. Name another --out, or add --overwrite"),
        ("timm", "folder", True, "folder is a folder that `medssl export` has not written"),
        ("timm", "file", True, "file is a file, and the format timm is a folder"),
        ("onnx", "chest", False, r"is a file that ends with \.onnx\. Name it chest\.onnx"),
        ("timm", "nowhere/chest", False, "There is no folder .*nowhere to write chest into"),
    ):
        with pytest.raises(UserError, match=message):
            export(tiny[0], tiny[1], name, tmp_path / out, Options(), overwrite=overwrite)
    assert (tmp_path / "folder" / "precious.txt").is_file()


def test_an_export_replaces_an_earlier_one_as_a_whole(tiny, tmp_path):
    out = tmp_path / "chest"
    export(tiny[0], tiny[1], "medssl", out, Options())
    (out / "surplus").touch()
    export(tiny[0], tiny[1], "timm", out, Options(), overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "card.json", "config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["chest"]
