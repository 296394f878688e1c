"""Weights of timm's networks from a file: the features are timm's own, and what does not fit is refused by name."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from timm.models.vision_transformer import checkpoint_filter_fn

from medssl.encoder.foreign import load_foreign
from medssl.errors import UserError

MODEL, MEAN, STD = "test_resnet", 0.5, 0.5  # timm's record of the network, for each colour


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    """A network of colour images with a classifier, and running statistics that are not the initial ones."""
    torch.manual_seed(0)
    network = timm.create_model(MODEL, num_classes=7)
    network(torch.randn(8, 3, 32, 32))
    return network.eval()


def written(network: torch.nn.Module, file: Path, classifier: bool = True) -> Path:
    tensors = {name: t.contiguous() for name, t in network.state_dict().items() if classifier or not name.startswith("fc.")}
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({"state_dict": {f"module.{name}": t for name, t in tensors.items()}, "epoch": 3}, file)
    return file


def own_features(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """By timm alone: its network with the first convolution as timm adapts it."""
    channels = images.shape[1]
    own = timm.create_model(MODEL, num_classes=0, in_chans=channels)
    tensors = {name: t for name, t in network.state_dict().items() if not name.startswith("fc.")}
    tensors["conv1.0.weight"] = adapt_input_conv(channels, tensors["conv1.0.weight"])
    own.load_state_dict(tensors, strict=True)
    return own.eval()((images - MEAN) / STD)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classifier", [True, False])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@torch.no_grad()
def test_the_features_are_those_of_timm(trained, tmp_path, suffix, classifier, channels):
    file = written(trained, tmp_path / f"{MODEL}.mine{suffix}", classifier)
    images = torch.rand(2, channels, 32, 32)
    encoder = load_foreign(file, channels, 32).encoder
    assert not encoder.training
    torch.testing.assert_close(encoder(images), own_features(trained, images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_grey_image_gives_what_the_same_image_in_three_equal_colours_gives(trained, tmp_path):
    file = written(trained, tmp_path / f"{MODEL}.safetensors")
    grey = torch.rand(2, 1, 32, 32)
    colour = load_foreign(file, 3, 32).encoder(grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(load_foreign(file, 1, 32).encoder(grey), colour, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_folder_as_hubs_give_it_names_its_architecture(trained, tmp_path):
    (tmp_path / "hub").mkdir()
    written(trained, tmp_path / "hub" / "model.safetensors")
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"architecture": MODEL}))
    images = torch.rand(2, 3, 32, 32)
    for path in (tmp_path / "hub", tmp_path / "hub" / "model.safetensors"):
        torch.testing.assert_close(load_foreign(path, 3, 32).encoder(images), own_features(trained, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [64, 160, 224])
@torch.no_grad()
def test_a_transformer_of_another_size_has_its_places_as_timm_moves_them(tmp_path, size):
    torch.manual_seed(0)
    tensors = timm.create_model("test_vit", num_classes=7, img_size=160).state_dict()
    save_file(tensors, file := tmp_path / "test_vit.mine.safetensors")
    own: Any = timm.create_model("test_vit", num_classes=7, img_size=size).eval()
    own.load_state_dict(checkpoint_filter_fn(tensors, own), strict=True)
    images = torch.rand(2, 3, size, size)
    expected = own.forward_head(own.forward_features((images - 0.5) / 0.5), pre_logits=True)
    torch.testing.assert_close(load_foreign(file, 3, size).encoder(images), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_weights_of_a_torch_that_did_not_count_batches_are_whole(trained, tmp_path):
    tensors = {name: tensor for name, tensor in trained.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(tensors, file := tmp_path / f"{MODEL}.old.safetensors")
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load_foreign(file, 3, 32).encoder(images), own_features(trained, images), rtol=1e-4, atol=1e-5)


def test_another_architecture_a_missing_and_a_surplus_tensor_are_refused_by_name(trained, tmp_path):
    other = written(trained, tmp_path / "resnet10t.mine.safetensors")
    with pytest.raises(UserError, match=r"resnet10t\.mine\.safetensors does not fit timm's resnet10t: .*; \d+ of another shape \("):
        load_foreign(other, 3, 32)
    tensors = {name: t for name, t in trained.state_dict().items() if name != "layer2.0.conv1.weight"}
    save_file(tensors, tmp_path / f"{MODEL}.a.safetensors")
    save_file({**trained.state_dict(), "surplus": torch.ones(1)}, tmp_path / f"{MODEL}.b.safetensors")
    save_file({**trained.state_dict(), "conv1.0.weight": torch.ones(1, 3, 3, 3)}, tmp_path / f"{MODEL}.c.safetensors")
    for letter, said in (
        ("a", r"1 missing \(layer2\.0\.conv1\.weight\)\. "),
        ("b", r"1 left over \(surplus\)\. "),
        ("c", r"1 of another shape \(conv1\.0\.weight: \(1, 3, 3, 3\) for \(16, 3, 3, 3\)\)\. "),
    ):
        with pytest.raises(UserError, match=f"{MODEL}.{letter}.safetensors does not fit timm's {MODEL}: {said}"):
            load_foreign(tmp_path / f"{MODEL}.{letter}.safetensors", 3, 32)


@pytest.mark.fault("S19")
def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    tensors = trained.state_dict() | {"layer1.0.conv1.weight": trained.layer1[0].conv1.weight * torch.nan}
    save_file(tensors, tmp_path / f"{MODEL}.mine.safetensors")
    with pytest.raises(UserError, match="1 tensors hold numbers that are not finite"):
        load_foreign(tmp_path / f"{MODEL}.mine.safetensors", 3, 32)


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_code_in_a_file_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{MODEL}.pth"
    torch.save({"state_dict": Harm()}, file)
    with pytest.raises(
        UserError, match=rf"{MODEL}\.pth cannot be read as weights: it holds an object of getattr\. Only tensors are loaded, never code"
    ):
        load_foreign(file, 3, 32)
    file.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_foreign(file, 3, 32)
    assert not (tmp_path / "harm").exists()


def test_torn_files_and_files_of_no_tensors_are_refused(trained, tmp_path):
    file = written(trained, tmp_path / f"{MODEL}.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_foreign(file, 3, 32)
    torch.save([1, 2], tmp_path / f"{MODEL}.pt")
    with pytest.raises(UserError, match="holds no tensors by name"):
        load_foreign(tmp_path / f"{MODEL}.pt", 3, 32)


def test_names_that_say_nothing_are_refused_with_the_nearest_one(trained, tmp_path):
    with pytest.raises(UserError, match=r"timm has no model 'tset_resnet'\. .*test_resnet"):
        load_foreign(written(trained, tmp_path / "tset_resnet.safetensors"), 3, 32)
    with pytest.raises(UserError, match=r"No encoder at .*nowhere\.pth"):
        load_foreign(tmp_path / "nowhere.pth", 3, 32)
    (tmp_path / f"{MODEL}.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=rf"{MODEL}\.onnx is a program of ONNX"):
        load_foreign(tmp_path / f"{MODEL}.onnx", 3, 32)
