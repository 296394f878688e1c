"""timm's networks: channels, sizes, stems, and what a wrong name gets."""

import pytest
import torch

from medssl.backbones import timm
from medssl.errors import UserError


@pytest.mark.parametrize(
    ("model", "channels", "size"),
    [("resnet18", 1, 28), ("resnet18", 4, 64), ("vit_tiny_patch16_224", 1, 32), ("convnext_atto", 2, 32)],
)
def test_any_timm_network_turns_n_channels_into_features(model, channels, size):
    network = timm.build(timm.Config(model=model), channels, size).eval()
    with torch.no_grad():
        assert network(torch.rand(2, channels, size, size)).shape == (2, network.num_features)


@pytest.mark.parametrize(
    ("size", "stem", "edge"), [(32, "auto", 32), (64, "auto", 32), (96, "auto", 24), (64, "own", 16), (64, "small", 64)]
)
def test_the_stem_leaves_small_images_their_resolution(size, stem, edge):
    network = timm.build(timm.Config(model="resnet18", stem=stem), 1, size).eval()
    sizes = []
    network.get_submodule("layer1").register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    with torch.no_grad():
        network(torch.rand(1, 1, size, size))
    assert sizes == [edge]


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "resnetv2_18", "regnety_002", "skresnet18"])
def test_no_residual_branch_starts_at_zero_unless_it_is_asked_for(model):
    def zeros(zero_init_last: bool = False) -> int:
        network = timm.build(timm.Config(model=model, zero_init_last=zero_init_last), 1, 32)
        return sum(not parameter.any() for name, parameter in network.named_parameters() if name.endswith("weight"))

    assert zeros() == 0
    assert zeros(zero_init_last=True) >= 8 // 2


def test_arguments_reach_timm_and_wrong_ones_are_named():
    network = timm.build(timm.Config(arguments={"channels": [8, 16, 32, 64]}), 1, 32)
    assert network.num_features == 64
    with pytest.raises(UserError, match=r"backbone\.arguments.*resnet18"):
        timm.build(timm.Config(arguments={"colour": "blue"}), 1, 32)


def test_a_misspelt_network_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="'resnet18'"):
        timm.build(timm.Config(model="resnet_18"), 1, 32)


def test_a_stem_that_the_network_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"backbone\.stem"):
        timm.build(timm.Config(model="vit_tiny_patch16_224", stem="small"), 1, 32)
