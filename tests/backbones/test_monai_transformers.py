"""monai's transformers for volumes: those of SwinUNETR and UNETR, what they refuse, and what the toolkit does with them."""

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn

from medssl.backbones import monai
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.report.gradcam import grad_cam
from medssl.train import optimisers
from medssl.train.memory import activation_bytes

SWIN = {"name": "monai", "model": "swin", "width": 12}
VIT = {"name": "monai", "model": "vit", "width": 12, "patch": 8}
CUBE = (16, 16, 16)


def build(backbone: dict, channels: int = 1, size: tuple[int, int, int] = CUBE) -> nn.Module:
    return monai.build(monai.Config(**backbone), channels, size)


@pytest.mark.parametrize(
    ("backbone", "channels", "size", "features"),
    [(SWIN, 1, CUBE, 192), (SWIN, 2, (9, 35, 18), 192), (VIT, 1, CUBE, 12), (VIT, 3, (8, 24, 16), 12)],
)
def test_every_transformer_turns_volumes_of_n_channels_into_features(backbone, channels, size, features):
    network = build(backbone, channels, size)
    assert network.num_features == features
    found = network(torch.rand(2, channels, *size).contiguous(memory_format=torch.channels_last_3d))
    assert found.shape == (2, features)
    assert found.isfinite().all()
    (found * torch.arange(features)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)


def test_the_width_that_is_not_given_is_the_usual_one():
    assert [monai.Config(model=model).width for model in ("swin", "vit", "resnet18")] == [48, 768, 64]
    assert monai.Config(model="swin", width=24).width == 24


def _last_level_of_swin(network: nn.Module, images: Tensor) -> Tensor:
    return network(images, normalize=True)[-1].mean((2, 3, 4))


def _tokens_of_vit(network: nn.Module, images: Tensor) -> Tensor:
    return network(images)[0].mean(1)


@pytest.mark.parametrize("model", ["swin", "vit"])
def test_a_stored_encoder_is_that_of_a_network_for_segmentation_and_answers_the_probe_volume_alike(model, tmp_path):
    size = (32, 32, 32)
    backbone = {"name": "monai", "model": model, "width": 24}
    encoder = artefact.build_encoder(backbone, 2, size, torch.tensor([0.4, 0.5]), torch.tensor([0.2, 0.3]), seed=0)
    artefact.save(encoder, tmp_path, backbone=backbone, channels=2, size=size, card={})
    stored, card = artefact.load(tmp_path)
    if model == "swin":
        unet = SwinUNETR(2, 3, feature_size=24).eval()
        part, features = unet.swinViT, _last_level_of_swin
    else:
        unet = UNETR(2, 3, size, hidden_size=24, mlp_dim=96).eval()
        part, features = unet.vit, _tokens_of_vit
    part.load_state_dict(stored.backbone.state_dict(), strict=True)
    with torch.no_grad():
        found = features(part, (artefact.probe_image(2, size) - stored.mean) / stored.std)[0]
    torch.testing.assert_close(found, torch.tensor(card["probe_output"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "size", "says"),
    [
        (SWIN | {"width": 64}, CUBE, r"backbone\.width: swin takes multiples of 12, and 64 is none\. Use backbone\.width=48"),
        (VIT | {"width": 16}, CUBE, r"backbone\.width=768"),
        (SWIN | {"width": 516}, CUBE, "516 is too much for swin, which takes 512 at most"),
        (SWIN | {"stem": "small"}, CUBE, r"backbone\.stem: swin has its own stem only\. Use backbone\.stem=own"),
        (SWIN | {"patch": 8}, CUBE, r"backbone\.patch is for vit"),
        (VIT, (16, 20, 16), r"16 x 20 x 16 voxels cannot be cut into cubes of 8 voxels.*multiples of 8 for data\.size"),
    ],
)
def test_what_a_transformer_cannot_be_is_refused_in_words(backbone, size, says):
    with pytest.raises(UserError, match=says):
        build(backbone, size=size)


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (SWIN, {"layers4.0.downsample.norm": 1, "layers4.0.blocks.1.norm1": 1, "layers4.0.blocks.0.attn.qkv": 2, "patch_embed.proj": 9}),
        (VIT, {"norm": 1, "blocks.11.norm1": 1, "blocks.10.attn.qkv": 2, "patch_embedding.patch_embeddings": 13}),
    ],
)
def test_layers_of_a_transformer_learn_the_slower_the_earlier_they_are(backbone, expected):
    network = build(backbone)
    groups = optimisers.layer_decay_groups(network, nn.Linear(12, 2), 0.05, 0.5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"] if id(p) in names}
    assert scale.keys() == {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {layer: scale[f"{layer}.weight"] for layer in expected} == {layer: 0.5**depth for layer, depth in expected.items()}
    assert min(scale.values()) == 0.5 ** max(expected.values())


def test_a_transformer_has_no_map_for_grad_cam_and_an_estimate_of_its_memory():
    for backbone in (SWIN, VIT):
        encoder = artefact.build_encoder(backbone, 1, CUBE, torch.tensor([0.5]), torch.tensor([0.25]), seed=0)
        classifier = nn.Sequential(encoder, nn.Linear(encoder.num_features, 2))
        assert grad_cam(classifier, torch.rand(1, 1, *CUBE).numpy(), [0]) is None
        assert activation_bytes(encoder, 1, CUBE) > 4 * 16**3
