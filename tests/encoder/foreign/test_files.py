"""Which files are read, what they may hold, and which network and standardisation they name."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from medssl.encoder import artefact
from medssl.encoder.foreign import digest, load_foreign
from medssl.encoder.foreign.files import find_file, read
from medssl.errors import UserError


class OfLightlyTrain:
    """Stands for an object of lightly-train, whose name is all that is read of it."""

    def __reduce__(self) -> Any:
        return (OfLightlyTrain, ())


OfLightlyTrain.__module__, OfLightlyTrain.__qualname__ = "lightly_train._checkpoint", "CheckpointLightlyTrain"


def scripted(file: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), file)


def exported(file: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), file)


def of_lightly_train(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    package, module = ModuleType("lightly_train"), ModuleType("lightly_train._checkpoint")
    module.CheckpointLightlyTrain = OfLightlyTrain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightly_train", package)
    monkeypatch.setitem(sys.modules, "lightly_train._checkpoint", module)
    torch.save({"state_dict": {}, "lightly_train": OfLightlyTrain()}, file)


@pytest.mark.filterwarnings("ignore")  # torch warns of its own formats
def test_programs_and_other_formats_are_refused_with_the_way_to_weights(tmp_path, monkeypatch):
    scripted(tmp_path / "script.pt")
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "renamed.bin").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "model.onnx").write_bytes(b"")
    of_lightly_train(tmp_path / "last.ckpt", monkeypatch)
    for name, said in {
        "script.pt": r"torch\.jit\.load\('script\.pt'\)\.state_dict\(\)",
        "weights.h5": "has weights of Keras",
        "renamed.bin": "has weights of Keras",
        "model.onnx": "a program of ONNX",
        "last.ckpt": "lightly-train export out=weights.pt checkpoint=last.ckpt part=model format=torch_state_dict",
    }.items():
        with pytest.raises(UserError, match=f"{name} .*{said}"):
            read(tmp_path / name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_program_of_torch_export_is_refused_under_any_name(tmp_path):
    exported(tmp_path / "program.pt2")
    (tmp_path / "program.pt").write_bytes((tmp_path / "program.pt2").read_bytes())
    for name in ("program.pt2", "program.pt"):
        with pytest.raises(UserError, match=f"torch.export.load.*{name}"):
            read(tmp_path / name)


def test_a_zip_of_something_else_is_no_file_of_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(UserError, match=r"a\.pt cannot be read as weights"):
        read(tmp_path / "a.pt")
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"No encoder at .*: picture\.png is no file of weights that is known"):
        find_file(tmp_path / "picture.png")


@pytest.fixture(scope="module")
def small() -> Any:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=0, img_size=32).eval()


def standardisation(path: Path, **more: Any) -> tuple[float, str]:
    loaded = load_foreign(path, 3, 32, configured={"name": "timm", "model": "test_vit", "arguments": {}}, **more)
    return round(float(loaded.encoder.mean.flatten()[0]), 3), loaded.facts["standardisation"]


def test_the_standardisation_is_the_hubs_or_timms_record_or_imagenets(small, tmp_path):
    state = {name: tensor.contiguous() for name, tensor in small.state_dict().items()}
    save_file(state, tmp_path / "test_vit.safetensors")
    save_file(state, tmp_path / "unnamed.safetensors")
    torch.save({"teacher": {f"backbone.{name}": tensor for name, tensor in state.items()}}, tmp_path / "test_vit.dino.pth")
    torch.save({"arch": "test_vit", "state_dict": state}, tmp_path / "checkpoint.pth")
    assert standardisation(tmp_path / "test_vit.safetensors") == (0.5, "timm's record of test_vit")
    imagenet = (0.485, "ImageNet's, as the weights do not say")
    assert standardisation(tmp_path / "unnamed.safetensors") == imagenet
    assert standardisation(tmp_path / "test_vit.dino.pth") == imagenet, "another method's weights are not those of timm's record"
    assert standardisation(tmp_path / "checkpoint.pth") == imagenet
    save_file(state, tmp_path / "test_vit.r160_in1k.safetensors")
    assert standardisation(tmp_path / "test_vit.r160_in1k.safetensors") == (0.5, "timm's record of test_vit.r160_in1k")
    (tmp_path / "hub").mkdir()
    save_file(state, tmp_path / "hub" / "model.safetensors")
    config = {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.1, 0.1, 0.1], "std": [0.2, 0.2, 0.2]}}
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    assert standardisation(tmp_path / "hub") == (0.1, "config.json")


def test_the_network_is_named_by_the_hub_the_files_name_or_the_checkpoint(small, tmp_path):
    resnet18 = {"name": "timm", "model": "resnet18", "arguments": {"channels": [8, 8, 16, 16]}}
    torch.save({"arch": "test_vit", "state_dict": small.state_dict()}, tmp_path / "checkpoint.pth")
    torch.save(small.state_dict(), tmp_path / "Test_ViT.pt")
    for name in ("checkpoint.pth", "Test_ViT.pt"):
        backbone = load_foreign(tmp_path / name, 3, 32, configured=resnet18).backbone
        assert backbone == {"name": "timm", "model": "test_vit", "stem": "own", "arguments": {}}
    (tmp_path / "config.json").write_text('{"architecture": "test_vut"}')
    with pytest.raises(UserError, match=r"timm has no model 'test_vut'\. Did you mean 'test_vit"):
        load_foreign(tmp_path / "checkpoint.pth", 3, 32)


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 16), (1, 80)])
@torch.no_grad()
def test_an_encoder_of_medssl_is_a_start_with_its_own_network_and_standardisation(channels, size, tmp_path):
    backbone = {"name": "timm", "model": "resnet18", "stem": "auto", "arguments": {"channels": [8, 8, 16, 16]}}
    ours = artefact.build_encoder(backbone, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=3).eval()
    (tmp_path / "earlier").mkdir()
    artefact.save(ours, tmp_path / "earlier", backbone=backbone, channels=1, size=16, card={})
    configured = {"name": "timm", "model": "resnet34", "stem": "own", "arguments": {}}
    for path in (tmp_path / "earlier", tmp_path / "earlier" / artefact.WEIGHTS):
        loaded = load_foreign(path, channels, size, configured=configured)
        assert loaded.backbone == {**backbone, "stem": "small"}, "the stem of the small images that it was trained on"
        assert loaded.facts["file"] == "earlier" and loaded.card is not None
        grey = torch.rand(2, 1, size, size)
        torch.testing.assert_close(loaded.encoder(grey.repeat(1, channels, 1, 1)), ours(grey), rtol=1e-5, atol=1e-6)
    assert digest(tmp_path / "earlier") == hashlib.sha256((tmp_path / "earlier" / artefact.WEIGHTS).read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"backbone\.model resnet18, and the setting is resnet50"):
        load_foreign(tmp_path / "earlier", channels, size, given={"model": "resnet50"})


@pytest.mark.slow
@torch.no_grad()
def test_imagenets_efficientnet_lite0_gives_the_features_of_its_network(script, tmp_path):
    """The package's weights recognise scikit-learn's photographs under timm's names; the loader gives the same features."""
    imagenet = script("pipelines/imagenet_weights.py").imagenet_weights()
    save_file(imagenet, file := tmp_path / "tf_efficientnet_lite0.imagenet.safetensors")
    loaded = load_foreign(file, 3, 64)
    assert loaded.facts["standardisation"] == "timm's record of tf_efficientnet_lite0"
    own: Any = timm.create_model("tf_efficientnet_lite0")
    own.load_state_dict(imagenet, strict=True)
    own.reset_classifier(0)
    images = torch.rand(2, 3, 64, 64)
    own = own.eval().to(memory_format=torch.channels_last)
    standard = ((images - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(loaded.encoder(images), own(standard), rtol=1e-6, atol=1e-6)
    assert loaded.facts["left_out"] == {"classifier": 2}
