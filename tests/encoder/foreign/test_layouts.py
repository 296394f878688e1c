"""Each layout of the documented ones gives the features of the network that wrote it; what no layout names is refused."""

import copy
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from medssl.encoder.foreign import load_foreign
from medssl.errors import UserError

NARROW = {"name": "timm", "model": "resnet18", "stem": "own", "arguments": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}}
MEAN, STD = (torch.tensor(values).reshape(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # ImageNet's
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    made = timm.create_model("resnet18", num_classes=5, layers=[1, 1, 1, 1], channels=[8, 8, 16, 16])
    made(torch.randn(8, 3, 32, 32))  # running statistics that are not the initial ones
    return made.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def features(network: Any, images: Tensor, mean: Tensor = MEAN, std: Tensor = STD) -> Tensor:
    """Of a network without a classifier, in the memory layout of an encoder, in which the arithmetic is the same to the last bit."""
    as_encoder = copy.deepcopy(network).to(memory_format=torch.channels_last)
    return as_encoder(((images - mean) / std).contiguous(memory_format=torch.channels_last)).flatten(1)


def bare(network: Any) -> Any:
    """A copy of a timm network without its classifier."""
    headless = copy.deepcopy(network)
    headless.reset_classifier(0)
    return headless


def under(prefix: str, state: State, *, head: str = "fc") -> State:
    return {f"{prefix}{name.replace('fc.', f'{head}.')}": value for name, value in state.items() if head or not name.startswith("fc.")}


def other(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


def numbered(state: State) -> State:
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    parts = ((*name.partition("."), value) for name, value in state.items() if not name.startswith("fc."))
    return {f"{numbers[part]}.{rest}": value for part, _, rest, value in parts}


HEADS = {"projector.0.weight": torch.ones(2, 2), "predictor.0.weight": torch.ones(2, 2)}
LAYOUTS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "timm": ("timm or torchvision", lambda s: s),
    "DDP": ("timm or torchvision", lambda s: under("module.", s)),
    "state_dict": ("timm or torchvision", lambda s: {"state_dict": s, "epoch": 3}),
    "model": ("timm or torchvision", lambda s: {"model": under("module.", s), "optimizer": {"state": {}}}),
    "torch.compile": ("timm or torchvision", lambda s: {"model": under("_orig_mod.", s)}),
    "timm training": ("moving average", lambda s: {"state_dict": other(s), "state_dict_ema": s, "arch": "resnet18"}),
    "torchvision training": (
        "moving average",
        lambda s: {"model": other(s), "model_ema": under("module.", s) | {"n_averaged": torch.tensor(3)}, "args": Namespace(lr=0.1)},
    ),
    "MoCo v2": (
        "MoCo v1 or v2",
        lambda s: {
            "arch": "resnet18",
            "state_dict": under("module.encoder_q.", s, head="fc.0")
            | under("module.encoder_k.", other(s))
            | {"module.queue": torch.ones(4, 2), "module.queue_ptr": torch.zeros(1)},
        },
    ),
    "MoCo v3": (
        "MoCo v3",
        lambda s: {
            "state_dict": under("module.base_encoder.", s, head="fc.0")
            | under("module.momentum_encoder.", other(s))
            | under("module.predictor.", {"0.weight": torch.ones(2, 2)})
        },
    ),
    "MoCo v3, momentum alone": ("momentum encoder", lambda s: {"state_dict": under("module.momentum_encoder.", s)}),
    "SimSiam": (
        "SimSiam",
        lambda s: {"state_dict": under("module.encoder.", s, head="fc.0") | {"module.predictor.0.weight": torch.ones(2, 2)}},
    ),
    "DINO": (
        "teacher of DINO",
        lambda s: {
            "student": under("module.backbone.", other(s)) | {"module.head.mlp.0.weight": torch.ones(2, 2)},
            "teacher": under("backbone.", s, head="") | {"head.mlp.0.weight": torch.ones(2, 2)},
            "args": Namespace(arch="resnet18"),
        },
    ),
    "solo-learn": (
        "solo-learn",
        lambda s: {"state_dict": under("backbone.", s, head="") | under("momentum_backbone.", other(s)) | HEADS | {"queue": torch.ones(2)}},
    ),
    "stable-pretraining": (
        "stable-pretraining",
        lambda s: {"state_dict": under("backbone.", s) | {**HEADS, "callbacks_modules.probe.weight": torch.ones(2, 2)}},
    ),
    "mmselfsup": ("mmselfsup", lambda s: {"state_dict": under("backbone.", s, head="") | {"neck.fc0.weight": torch.ones(2, 2)}}),
    "VISSL": (
        "VISSL",
        lambda s: {
            "classy_state_dict": {
                "base_model": {"model": {"trunk": under("_feature_blocks.", s, head=""), "heads": {"0.clf.weight": torch.ones(2, 2)}}}
            }
        },
    ),
    "RadImageNet": ("a backbone beside heads", lambda s: under("backbone.", numbered(s))),
    "a Lightning module": ("timm or torchvision", lambda s: {"state_dict": under("model.", s)}),
}


def saved(content: Any, file: Path) -> Path:
    torch.save(content, file)
    return file


@pytest.mark.parametrize("name", LAYOUTS)
@torch.no_grad()
def test_a_file_of_each_layout_gives_the_features_of_its_network(name, network, images, tmp_path):
    layout, written = LAYOUTS[name]
    loaded = load_foreign(saved(written(dict(network.state_dict())), tmp_path / "weights.pth"), 3, 32, configured=NARROW)
    torch.testing.assert_close(loaded.encoder(images), features(bare(network), images), rtol=1e-6, atol=1e-6)
    assert layout in loaded.facts["layout"]
    assert loaded.facts["matched"] == 78


@torch.no_grad()
def test_what_is_left_out_adapted_and_missing_is_said(network, tmp_path):
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    file = saved({"state_dict": under("module.encoder_q.", state) | {"module.queue": torch.ones(2)}}, tmp_path / "moco.pth.tar")
    loaded = load_foreign(file, 1, 32, configured=NARROW)
    said = "\n".join(loaded.lines())
    assert "moco.pth.tar: MoCo v1 or v2" in said
    assert "matched   65 tensors of resnet18" in said
    assert "adapted   conv1.weight: 3 to 1 channels, summed" in said
    assert "left out  queue (1), fc (2)" in said
    assert "missing   13 counters of batch normalisations" in said
    assert "ImageNet's, as the weights do not say" in said
    expected = network.conv1.weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(loaded.encoder.backbone.state_dict()["conv1.weight"], expected, rtol=0, atol=1e-6)
    assert loaded.encoder.mean.flatten().tolist() == pytest.approx([sum((0.485, 0.456, 0.406)) / 3])


@torch.no_grad()
def test_weights_of_grey_images_give_a_grey_picture_in_colours_the_same_features(images, tmp_path):
    torch.manual_seed(0)
    grey = timm.create_model("resnet18", num_classes=0, in_chans=1, layers=[1, 1, 1, 1], channels=[8, 8, 16, 16]).eval()
    file = saved(dict(grey.state_dict()), tmp_path / "grey.pth")
    loaded = load_foreign(file, 3, 32, configured=NARROW)
    loaded.encoder.mean.zero_()
    loaded.encoder.std.fill_(1)
    torch.testing.assert_close(
        loaded.encoder(images[:, :1].expand(-1, 3, -1, -1)),
        features(grey, images[:, :1], torch.zeros(1), torch.ones(1)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("stem", ["", "small", "medium"])
@torch.no_grad()
def test_the_stem_follows_from_the_first_convolution_unless_it_is_named(stem, images, tmp_path):
    from medssl.backbones.timm import Config, build

    torch.manual_seed(0)
    network = build(Config(**{**NARROW, "stem": stem or "small"}), 3, 32).eval()
    file = saved(dict(network.state_dict()), tmp_path / "cifar.pth")
    loaded = load_foreign(file, 3, 32, configured=NARROW, given={"stem": stem} if stem else {})
    assert loaded.backbone["stem"] == (stem or "small")
    torch.testing.assert_close(loaded.encoder(images), features(network, images), rtol=1e-6, atol=1e-6)


class Shell(nn.Module):
    """What a user of Lightning and lightly writes: all of a torchvision network but its classifier, beside a head."""

    def __init__(self, resnet: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.projection_head = nn.Sequential(*list(resnet.children())[:-1]), head


@pytest.fixture(scope="module")
def torchvision_resnet() -> Any:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    made = resnet18()
    made(torch.randn(4, 3, 64, 64))
    return made.eval()


@pytest.mark.slow
@torch.no_grad()
def test_files_of_torchvision_and_of_lightly_give_torchvisions_features(torchvision_resnet, images, tmp_path):
    from lightly.models.modules import NNCLRProjectionHead

    own = nn.Sequential(*list(torchvision_resnet.children())[:-1], nn.Flatten())
    shell = Shell(torchvision_resnet, NNCLRProjectionHead(512, 512, 128))
    files = {
        "timm or torchvision": saved(torchvision_resnet.state_dict(), tmp_path / "resnet18-f37072fd.pth"),
        "lightly": saved({"state_dict": shell.state_dict(), "pytorch-lightning_version": "2.6"}, tmp_path / "epoch=9.ckpt"),
    }
    for layout, file in files.items():
        loaded = load_foreign(file, 3, 32, configured={**NARROW, "arguments": {}})
        torch.testing.assert_close(loaded.encoder(images), features(own, images), rtol=1e-6, atol=1e-6)
        assert layout in loaded.facts["layout"]


@pytest.mark.slow
def test_lightlys_own_resnet_in_a_sequential_lacks_an_activation_and_is_refused(tmp_path):
    from lightly.models import ResNetGenerator

    file = saved(nn.Sequential(*list(ResNetGenerator("resnet-18").children())[:-1]).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match="does not fit"):
        load_foreign(file, 3, 32)


@pytest.mark.slow
@torch.no_grad()
def test_a_file_of_monai_gives_monais_features_and_its_other_networks_are_refused(images, tmp_path):
    from monai.networks.nets.resnet import resnet18

    torch.manual_seed(0)
    same = {"spatial_dims": 2, "n_input_channels": 3, "feed_forward": False, "shortcut_type": "B"}
    monai = resnet18(**same, bias_downsample=False, conv1_t_stride=2).eval()
    file = saved(monai.state_dict(), tmp_path / "resnet18.monai.pt")
    loaded = load_foreign(file, 3, 32)
    torch.testing.assert_close(
        loaded.encoder(images), features(monai, images, loaded.encoder.mean, loaded.encoder.std), rtol=1e-6, atol=1e-6
    )
    with_bias = saved(resnet18(**same, bias_downsample=True).state_dict(), tmp_path / "resnet18.bias.pt")
    with pytest.raises(UserError, match=r"3 left over \(layer2\.0\.downsample\.0\.bias"):
        load_foreign(with_bias, 3, 32)


@torch.no_grad()
def test_a_densenet_of_radimagenet_is_one_numbered_part(images, tmp_path):
    torch.manual_seed(0)
    densenet: Any = timm.create_model("densenet121", num_classes=3, growth_rate=4, block_config=(1, 1, 1, 1)).eval()
    parts = nn.ModuleDict({"backbone": nn.Sequential(*list(densenet.children())[:-1])})
    file = saved(parts.state_dict(), tmp_path / "DenseNet121.pt")
    arguments = {"growth_rate": 4, "block_config": [1, 1, 1, 1]}
    loaded = load_foreign(file, 3, 32, given={"arguments": arguments})
    assert loaded.backbone["model"] == "densenet121"
    torch.testing.assert_close(loaded.encoder(images), features(bare(densenet), images), rtol=1e-6, atol=1e-6)


REFUSED: dict[str, tuple[str, Callable[[State], Any]]] = {
    "a missing tensor": (r"1 missing \(layer3\.0\.conv2\.weight\)", lambda s: {n: v for n, v in s.items() if n != "layer3.0.conv2.weight"}),
    "a surplus tensor": (r"1 left over \(extra\.weight\)", lambda s: s | {"extra.weight": torch.ones(1)}),
    "another width": (
        r"of another shape \(layer1\.0\.conv1\.weight",
        lambda s: s | {"layer1.0.conv1.weight": torch.ones(16, 64, 3, 3)},
    ),
    "swapped parts": (
        "of another shape",
        lambda s: {n.replace("6.", "x.", 1).replace("5.", "6.", 1).replace("x.", "5.", 1): v for n, v in numbered(s).items()},
    ),
    "a tensor beside the backbone that no layout has": (
        r"beside it 1 tensors that no known layout has, as 'extra\.weight'",
        lambda s: under("backbone.", s) | {"extra.weight": torch.ones(1)},
    ),
    "the biases of Keras": (
        "come from Keras .*_notop",
        lambda s: s | {n.replace("weight", "bias"): v[:, 0, 0, 0] for n, v in s.items() if "conv" in n},
    ),
    "a convolution of volumes": ("a network of volumes", lambda s: s | {"conv1.weight": torch.ones(64, 1, 7, 7, 7)}),
    "volumes of nnssl": ("a network of volumes", lambda s: {"network_weights": s, "nnssl_adaptation_plan": {}}),
    "a network of VISSL without a trunk": ("this file has none", lambda s: {"classy_state_dict": {"base_model": s}}),
    "not finite": (r"1 tensors hold numbers that are not finite", lambda s: s | {"bn1.weight": s["bn1.weight"] * float("nan")}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_backbone_of_this_network_is_refused_with_the_reason(name, network, tmp_path):
    said, written = REFUSED[name]
    with pytest.raises(UserError, match=said):
        load_foreign(saved(written(dict(network.state_dict())), tmp_path / "weights.pth"), 3, 32, configured=NARROW)


def test_another_network_or_stem_than_that_of_the_weights_is_refused(network, tmp_path):
    file = saved(dict(network.state_dict()), tmp_path / "resnet18.mine.pth")
    with pytest.raises(UserError, match=r"the file's name says .* of resnet18, and backbone\.model is resnet34"):
        load_foreign(file, 3, 32, configured=NARROW, given={"model": "resnet34"})
    with pytest.raises(UserError, match=r"conv1\.weight: \(64, 3, 7, 7\) for \(64, 3, 3, 3\)"):
        load_foreign(file, 3, 32, configured=NARROW, given={"stem": "small"})
