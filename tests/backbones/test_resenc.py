"""The encoder of nnU-Net, whose package is optional: what it computes, and the checkpoint for nnU-Net."""

import sys
from pydoc import locate

import pytest
import torch
from exporting import agree, make_encoder, type_in
from torch import nn

from medssl.backbones import monai
from medssl.encoder.export import Options, export
from medssl.errors import UserError
from medssl.train import optimisers

RESENC = {"name": "monai", "model": "resenc", "width": 4}
SIZE = (64, 64, 64)


def test_without_its_package_the_network_is_refused_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    for name in [name for name in sys.modules if name.startswith("dynamic_network_architectures.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r'pip install "medssl\[nnunet\]"'):
        monai.build(monai.Config(**RESENC), 1, SIZE)


@pytest.mark.parametrize("size", [(64, 64, 80), (64, 32, 64)])
def test_a_size_whose_last_level_does_not_fit_or_is_one_voxel_thick_is_refused(size):
    with pytest.raises(UserError, match=r"do not fit resenc, which divides each edge by 32.*multiples of 32 from 64 on"):
        monai.build(monai.Config(**RESENC), 1, size)


def test_only_the_encoder_of_nnunet_becomes_its_checkpoint(tmp_path):
    encoder, card = make_encoder(tmp_path, {"name": "monai", "model": "resnet10", "width": 4}, 1, (16, 16, 16))
    with pytest.raises(UserError, match=r"resnet10 is no encoder of nnU-Net; only resenc is"):
        export(encoder, card, "nnunet", tmp_path / "ct.pth", Options())


@pytest.mark.slow
def test_layers_learn_the_slower_the_earlier_they_are_and_every_weight_learns():
    pytest.importorskip("dynamic_network_architectures")
    network = monai.build(monai.Config(**RESENC), 1, SIZE)
    network(torch.rand(1, 1, *SIZE)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    groups = optimisers.layer_decay_groups(network, nn.Linear(40, 2), 0.05, 0.5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"] if id(p) in names}
    last = "encoder.stages.5.blocks.5.conv2.all_modules.0.weight"
    assert scale.keys() == dict(network.named_parameters()).keys()
    assert (scale[last], scale["encoder.stem.convs.0.all_modules.0.weight"]) == (0.5, 0.5**27)


@pytest.mark.slow
def test_a_stored_encoder_becomes_a_checkpoint_from_which_nnunets_network_has_its_features(tmp_path):
    """The names of stem and encoder are taken from the network, as nnU-Net does."""
    pytest.importorskip("dynamic_network_architectures")
    data = {"size": list(SIZE), "spacing_mm": [2.0, 1.0, 1.0], "volumes": "whole"}
    encoder, card = make_encoder(tmp_path, RESENC, 2, SIZE, config={"data": data})
    done = export(encoder, card, "nnunet", tmp_path / "ct.pth", Options())
    assert (tmp_path / "ct.pth").stat().st_size < 1.1 * (tmp_path / "encoder.safetensors").stat().st_size, (
        "tensors with two names are there once"
    )
    file = torch.load(tmp_path / "ct.pth", weights_only=True)
    plan = file["nnssl_adaptation_plan"]
    assert plan["pretrain_plan"]["configurations"] == {"medssl": {"spacing": [2.0, 1.0, 1.0], "patch_size": list(SIZE)}}
    assert (plan["pretrain_num_input_channels"], plan["recommended_downstream_patchsize"], plan["key_to_lpe"]) == (2, list(SIZE), None)
    described = plan["architecture_plans"]
    arguments = described["arch_kwargs"] | {
        name: locate(value) for name in described["arch_kwargs_requiring_import"] if (value := described["arch_kwargs"][name])
    }
    unet = locate(described["arch_class_name"])(2, num_classes=3, **arguments).eval()  # pyright: ignore[reportCallIssue, reportOptionalCall]
    assert plan["keys_to_in_proj"] == list(unet.keys_to_in_proj)
    for key, theirs in ((plan["key_to_encoder"], unet.key_to_encoder), (plan["key_to_stem"], unet.key_to_stem)):
        weights = {name.removeprefix(f"{key}."): value for name, value in file["network_weights"].items() if name.startswith(key)}
        unet.get_submodule(theirs).load_state_dict(weights, strict=True)
    images = torch.rand(2, 2, *SIZE)
    with torch.no_grad():
        standard = (images - encoder.mean) / encoder.std
        torch.testing.assert_close(unet.encoder(standard)[-1].mean((2, 3, 4)), encoder(images), rtol=0, atol=1e-4)
        assert agree(type_in(done.usage, images)["features"], encoder, images, 1e-4)
