"""Weights for whole volumes: those of MedicalNet, of MONAI, and of an encoder of medssl."""

import pytest
import torch
from monai.networks.nets.resnet import resnet10

from medssl.backbones import monai
from medssl.encoder import artefact
from medssl.encoder.foreign import load_foreign
from medssl.errors import UserError

CUBE = (16, 16, 16)
CONFIGURED = monai.Config(model="resnet18", width=8).model_dump(mode="json")


@pytest.fixture(scope="module")
def medicalnet(tmp_path_factory):
    """A file as MedicalNet offers it, and its network in MONAI."""
    network = resnet10(
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
        feed_forward=False,
        widen_factor=0.125,
    )
    file = tmp_path_factory.mktemp("weights") / "resnet_10_23dataset.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in network.state_dict().items()}}, file)
    return file, network.eval()


def test_weights_of_medicalnet_give_its_features_and_say_what_was_matched(medicalnet):
    file, network = medicalnet
    loaded = load_foreign(file, 1, CUBE, configured=CONFIGURED)
    assert loaded.backbone == {"name": "monai", "model": "resnet10", "stem": "own", "width": 8}
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
    assert loaded.backbone == {"name": "monai", "model": "resnet10", "stem": "small", "width": 4}
    images = torch.rand(2, 1, 40, 40, 40)
    with torch.no_grad():
        assert torch.equal(loaded.encoder(images), encoder.eval()(images))
    with pytest.raises(UserError, match=r"16 x 16 x 16 voxels with backbone monai, .* 32 pixels and backbone timm"):
        load_foreign(tmp_path, 1, 32)
