"""monai's networks for volumes: channels, sizes, stems, widths, and the layouts of MONAI's networks for segmentation."""

import re
from pathlib import Path

import pytest
import torch
from monai.networks.nets.flexible_unet import FlexibleUNet
from monai.networks.nets.segresnet_ds import SegResNetDS
from torch import Tensor, nn

from medssl.backbones import monai, timm
from medssl.encoder import artefact
from medssl.encoder.artefact import build_encoder
from medssl.errors import UserError
from medssl.train import optimisers

CUBE = (16, 16, 16)


def volumes(channels: int = 1, edge: int = 32) -> Tensor:
    return torch.rand(2, channels, edge, edge, edge, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "width", "channels", "size", "features"),
    [
        ("resnet10", 4, 1, CUBE, 32),
        ("resnet18", 4, 3, (16, 40, 24), 32),
        ("resnet34", 4, 1, CUBE, 32),
        ("resnet50", 4, 2, CUBE, 128),
        ("densenet121", 4, 1, CUBE, 64),
        ("segresnet", 4, 2, CUBE, 32),
    ],
)
def test_every_network_turns_volumes_of_n_channels_into_features(model, width, channels, size, features):
    network = monai.build(monai.Config(model=model, width=width), channels, size).eval()
    with torch.no_grad():
        assert network(torch.rand(2, channels, *size)).shape == (2, features)
    assert network.num_features == features


@pytest.mark.parametrize(("size", "stem", "edge"), [(32, "auto", 16), (40, "auto", 10), (32, "own", 8), (40, "small", 20)])
@pytest.mark.parametrize(("model", "layer"), [("resnet10", "layer1"), ("densenet121", "features.denseblock1")])
def test_the_stem_leaves_small_volumes_their_resolution(model, layer, size, stem, edge):
    network = monai.build(monai.Config(model=model, width=4, stem=stem), 1, (size,) * 3).eval()
    found = []
    network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: found.append(output.shape[-1]))
    with torch.no_grad():
        network(volumes(edge=size))
    assert found == [edge]


def _last_level(of: nn.Module, images: Tensor) -> Tensor:
    """The means over the last level of an encoder."""
    with torch.no_grad():
        return of(images)[-1].mean((2, 3, 4))


@pytest.mark.parametrize("model", ["resnet10", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_a_resnet_is_the_encoder_of_a_FlexibleUNet(model):
    network = monai.build(monai.Config(model=model, stem="own"), 1, (32, 32, 32)).eval()
    unet = FlexibleUNet(1, 2, model, spatial_dims=3).eval()
    unet.encoder.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(_last_level(unet.encoder, volumes()), network(volumes()), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_example_of_the_docs_learns_a_lesion_mask(tmp_path, monkeypatch, capsys):
    """Balls that are brighter than the noise around them, each at a place of its own."""
    page = (Path(__file__).parents[2] / "docs/how_to/volumes.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    network = {"name": "monai", "model": "resnet10", "stem": "own", "width": 64}
    encoder = build_encoder(network, 1, (32, 32, 32), torch.tensor([0.4]), torch.tensor([0.2]), seed=0)
    (tmp_path / "runs/brains").mkdir(parents=True)
    artefact.save(encoder, tmp_path / "runs/brains", backbone=network, channels=1, size=(32, 32, 32), card={})
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    places = torch.stack(torch.meshgrid(*(torch.arange(32.0),) * 3, indexing="ij"))
    centres = torch.tensor([[10, 12, 20], [20, 18, 9]])
    masks = torch.stack([((places - centre[:, None, None, None]).square().sum(0) < 36)[None] for centre in centres]).float()
    images = (0.3 + 0.4 * masks + 0.1 * torch.randn_like(masks)).clip(0, 1)
    exec(example, {"images": images, "masks": masks})  # noqa: S102 - our own page
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 20
    assert losses[-1] < 0.5 * losses[0]


def test_segresnet_is_the_encoder_of_a_SegResNetDS():
    network = monai.build(monai.Config(model="segresnet", width=8), 2, CUBE).eval()
    whole = SegResNetDS(in_channels=2, out_channels=2, init_filters=8, blocks_down=(1, 2, 2, 4)).eval()
    whole.encoder.load_state_dict(network.state_dict(), strict=True)
    images = volumes(channels=2, edge=16)
    with torch.no_grad():
        torch.testing.assert_close(_last_level(whole.encoder, images), network(images), rtol=0, atol=1e-5)


def test_shortcuts_without_weights_pass_the_gradient_on():
    """Those of MONAI 1.6 do not: the gradient of a shortcut alone is zero there."""
    network = monai.build(monai.Config(model="resnet18", width=4), 1, CUBE)
    images = torch.rand(1, 4, 8, 8, 8, requires_grad=True)
    network.get_submodule("layer2.0").downsample(images).sum().backward()  # pyright: ignore[reportCallIssue]
    assert images.grad is not None
    assert images.grad.sum() == 4 * 4**3


def test_layers_of_a_resnet_learn_the_slower_the_earlier_they_are():
    network = monai.build(monai.Config(model="resnet18", width=4), 1, CUBE)
    groups = optimisers.layer_decay_groups(network, nn.Linear(32, 2), 0.05, 0.5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"] if id(p) in names}
    assert scale.keys() == dict(network.named_parameters()).keys()
    assert [scale[f"{layer}.weight"] for layer in ("layer4.1.conv2", "layer4.0.conv1", "layer3.1.bn1")] == [0.5, 0.25, 0.125]
    assert scale["conv1.weight"] == scale["bn1.bias"] == 0.5**9


def test_a_network_of_images_for_volumes_and_the_other_way_round_is_refused():
    with pytest.raises(UserError, match="backbone=monai"):
        timm.build(timm.Config(), 1, CUBE)
    with pytest.raises(UserError, match="backbone=timm"):
        monai.build(monai.Config(), 1, 32)


def test_a_stem_that_the_network_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"backbone\.stem"):
        monai.build(monai.Config(model="segresnet", stem="small"), 1, CUBE)
