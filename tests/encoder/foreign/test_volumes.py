"""Weights for whole volumes: those of MedicalNet, of MONAI, and of an encoder of medssl."""

import re

import pytest
import torch
from medicalnet import save_medicalnet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn

from medssl.backbones import monai
from medssl.encoder import artefact
from medssl.encoder.foreign import load_foreign
from medssl.errors import UserError

CUBE = (16, 16, 16)
CONFIGURED = monai.Config(model="resnet18", width=8).model_dump(mode="json")


@pytest.fixture(scope="module")
def medicalnet(tmp_path_factory):
    """A file as MedicalNet offers it, and its network in MONAI."""
    file = tmp_path_factory.mktemp("weights") / "resnet_10_23dataset.pth"
    return file, save_medicalnet(file)


def test_weights_of_medicalnet_give_its_features_and_say_what_was_matched(medicalnet):
    file, network = medicalnet
    loaded = load_foreign(file, 1, CUBE, configured=CONFIGURED)
    assert loaded.backbone == {"name": "monai", "model": "resnet10", "stem": "own", "width": 8, "patch": 16}
    assert loaded.facts["matched"] == len(network.state_dict())
    assert "matched   72 tensors of resnet10, all that it has" in "\n".join(loaded.lines())
    images = torch.rand(2, 1, *CUBE)
    with torch.no_grad():
        standard = (images - loaded.encoder.mean) / loaded.encoder.std
        torch.testing.assert_close(loaded.encoder(images), network(standard), rtol=0, atol=1e-5)


def test_weights_of_one_channel_are_spread_over_several(medicalnet):
    file, network = medicalnet
    loaded = load_foreign(file, 3, CUBE, configured=CONFIGURED)
    assert loaded.facts["adapted"] == ["conv1.weight: 1 to 3 channels, spread"]
    image = torch.rand(2, 1, *CUBE)
    with torch.no_grad():
        standard = (image - 0.3) / 0.25
        torch.testing.assert_close(loaded.encoder(image.expand(-1, 3, -1, -1, -1)), network(standard), rtol=0, atol=1e-4)


def test_another_network_is_named_with_what_does_not_fit(medicalnet):
    with pytest.raises(UserError, match=r"does not fit MONAI's resnet18: .* left over .*backbone\.model=NAME"):
        load_foreign(medicalnet[0], 1, CUBE, configured=CONFIGURED, given={"model": "resnet18"})


def test_weights_of_images_for_volumes_are_refused_and_the_other_way_round(medicalnet, tmp_path):
    torch.save({"conv1.weight": torch.ones(64, 1, 7, 7)}, tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match="a network of images, and the samples are whole volumes"):
        load_foreign(tmp_path / "resnet18.pth", 1, CUBE, configured=CONFIGURED)
    with pytest.raises(UserError, match=r"a network of volumes .* data\.volumes=whole"):
        load_foreign(medicalnet[0], 1, 32)


def test_an_encoder_of_volumes_starts_another_training_of_volumes_and_none_of_images(tmp_path):
    backbone = {"name": "monai", "model": "resnet10", "stem": "auto", "width": 4}
    encoder = artefact.build_encoder(backbone, 1, CUBE, torch.tensor([0.4]), torch.tensor([0.2]), seed=3)
    artefact.save(encoder, tmp_path, backbone=backbone, channels=1, size=CUBE, card={})
    loaded = load_foreign(tmp_path, 1, (40, 40, 40), configured=CONFIGURED)
    assert loaded.backbone == {"name": "monai", "model": "resnet10", "stem": "small", "width": 4, "patch": 16}
    images = torch.rand(2, 1, 40, 40, 40)
    with torch.no_grad():
        assert torch.equal(loaded.encoder(images), encoder.eval()(images))
    with pytest.raises(UserError, match=r"16 x 16 x 16 voxels with backbone monai, .* 32 pixels and backbone timm"):
        load_foreign(tmp_path, 1, 32)


def _as_the_authors(network: nn.Module) -> dict[str, Tensor]:
    """The names of the file model_swinvit.pt, which `SwinUNETR.load_from` reads."""
    return {f"module.{re.sub('mlp.linear', 'mlp.fc', name)}": tensor for name, tensor in network.state_dict().items()}


def test_the_published_weights_of_SwinUNETR_give_its_features_and_say_what_was_matched(tmp_path):
    unet = SwinUNETR(1, 14, feature_size=12).eval()
    given = _as_the_authors(SwinUNETR(1, 14, feature_size=12).swinViT)
    unet.load_from({"state_dict": given})  # MONAI's own renaming
    torch.save({"epoch": 3, "state_dict": given}, file := tmp_path / "model_swinvit.pt")
    loaded = load_foreign(file, 1, CUBE, configured=CONFIGURED)
    assert loaded.backbone == {"name": "monai", "model": "swin", "stem": "own", "width": 12, "patch": 16}
    said = "\n".join(loaded.lines())
    assert "model_swinvit.pt: SwinUNETR's self-supervised pretraining" in said
    assert "standard deviation of: none, as the weights were trained on volumes in [0, 1]" in said
    assert f"matched   {len(given)} tensors of swin, all that it has" in said
    images = torch.rand(2, 1, *CUBE)
    with torch.no_grad():
        last = unet.swinViT(images, normalize=True)[-1].mean((2, 3, 4))
        torch.testing.assert_close(loaded.encoder(images), last, rtol=0, atol=1e-5)
        spread = load_foreign(file, 2, CUBE, configured=CONFIGURED)
        torch.testing.assert_close(spread.encoder(images.expand(-1, 2, -1, -1, -1)), last, rtol=0, atol=1e-4)
    assert spread.facts["adapted"] == ["patch_embed.proj.weight: 1 to 2 channels, spread"]


def test_the_encoder_of_a_whole_network_is_taken_and_the_rest_is_counted(tmp_path):
    unet, unetr = SwinUNETR(1, 2, feature_size=12), UNETR(1, 2, (32, 32, 32), hidden_size=12, mlp_dim=48)
    pretraining = {f"swin_vit.{name}": tensor for name, tensor in unet.swinViT.state_dict().items()} | {"rotation_head.bias": torch.ones(4)}
    files = {"swin.pt": unet.state_dict(), "pretrained.pt": pretraining, "vit.pt": unetr.state_dict()}
    networks = {"swin.pt": unet.swinViT, "pretrained.pt": unet.swinViT, "vit.pt": unetr.vit}
    left_out = {}
    for name, state in files.items():
        torch.save(state, tmp_path / name)
        loaded = load_foreign(tmp_path / name, 1, (32, 32, 32), configured=CONFIGURED)
        assert loaded.facts["matched"] == len(networks[name].state_dict())
        assert all(torch.equal(tensor, networks[name].state_dict()[key]) for key, tensor in loaded.encoder.backbone.state_dict().items())
        left_out[name] = (loaded.facts["layout"], *list(loaded.facts["left_out"])[:2])
    assert left_out == {
        "swin.pt": ("a SwinUNETR", "encoder1", "encoder2"),
        "pretrained.pt": ("SwinUNETR's self-supervised pretraining", "rotation_head"),
        "vit.pt": ("a UNETR", "encoder1", "encoder2"),
    }


def test_positions_of_a_vit_are_interpolated_between_cubes_of_another_size(tmp_path):
    """Positions that grow linearly from slice to slice do so at twice the size, but at the border."""
    network = monai.build(monai.Config(model="vit", width=12, patch=8), 1, (32, 32, 32))
    state = network.state_dict()
    position = state["patch_embedding.position_embeddings"].unflatten(1, (4, 4, 4))
    position.copy_(torch.arange(4.0)[None, :, None, None, None])
    torch.save(state, file := tmp_path / "vit.pt")
    loaded = load_foreign(file, 1, (64, 32, 32), configured=CONFIGURED)
    assert loaded.backbone["patch"] == 8
    assert loaded.facts["adapted"] == ["patch_embedding.position_embeddings: 64 to 128 positions, interpolated"]
    found = loaded.encoder.backbone.state_dict()["patch_embedding.position_embeddings"].unflatten(1, (8, 4, 4))
    torch.testing.assert_close(found[0, 1:7, 2, 1, 5], torch.arange(0.25, 3, 0.5))
    state["patch_embedding.position_embeddings"] = torch.ones(1, 60, 12)
    torch.save(state, file)
    with pytest.raises(UserError, match=r"patch_embedding\.position_embeddings: \(1, 60, 12\) for \(1, 64, 12\)"):
        load_foreign(file, 1, (32, 32, 32), configured=CONFIGURED)
