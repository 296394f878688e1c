"""The networks of MONAI for whole volumes, for 1 to n channels, without their classifiers.

The ResNets are those of MedicalNet (Chen et al. 2019, "Med3D") and of the encoder of MONAI's `FlexibleUNet`: tensors with the same names
and shapes, if `stem` is "own" and `width` 64. `segresnet` is the encoder of MONAI's `SegResNetDS`. The features are the means over the last
level of a network.

`stem`: small volumes lose everything in a stem that divides the edge by four. "small" divides the edge by two: its first convolution is
3 x 3 x 3, and the pooling is dropped. "auto" takes "small" up to 32 voxels, and what MONAI built above. `segresnet` keeps the whole
resolution in its first level, and has its own stem only.

`width`: the channels of the first level; each level has twice as many as the one before.
"""

from typing import Literal

from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.resnet import ResNet, get_medicalnet_pretrained_resnet_args
from monai.networks.nets.segresnet_ds import SegResEncoder
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.config import PluginConfig
from medssl.errors import UserError
from medssl.types import Size, edges

_SMALL_EDGE = 32
_RESNETS: dict[str, tuple[str, list[int]]] = {  # the kind of block, and how many of them each level has
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}


class Config(PluginConfig):
    name: str = "monai"
    model: Literal["resnet10", "resnet18", "resnet34", "resnet50", "densenet121", "segresnet"] = Field(
        default="resnet18", description="The name of the network in MONAI."
    )
    stem: Literal["auto", "small", "own"] = Field(
        default="auto",
        description="How the network begins: own (as in MONAI, divides the edge by four) or small (by two, for volumes up to 32 voxels); "
        "auto chooses by the size.",
    )
    width: int = Field(default=64, ge=4, le=512, description="The channels of the first level; each level has twice as many.")
    init: str = Field(
        default="", description="Weights that pretraining starts from (--init): a file, a folder of a model hub or a run; empty is random."
    )
    init_sha256: str = Field(default="", description="The SHA-256 of these weights, which medssl writes: other weights are refused.")


def build(config: Config, channels: int, size: Size) -> nn.Module:
    """A network from volumes [B, `channels`, slices, rows, columns] to features [B, D], D = `num_features`.

    Raises UserError for images, and for a stem that the network does not have.
    """
    if isinstance(size, int):
        raise UserError("backbone: the networks of monai are for whole volumes (--set data.volumes=whole). For images: --set backbone=timm")
    if config.model == "segresnet":
        if config.stem == "small":
            raise UserError("backbone.stem: segresnet keeps the whole resolution in its first level. Use backbone.stem=own.")
        return _SegResNet(channels, config.width)
    small = resolve_stem(config.model, config.stem, size) == "small"
    if config.model == "densenet121":
        return _DenseNet(channels, config.width, small)
    return _ResNet(config.model, channels, config.width, small)


def resolve_stem(model: str, stem: str, size: Size) -> str:
    """The stem for volumes of that size: `stem` itself, or what "auto" chooses."""
    return stem if stem != "auto" else "small" if max(edges(size)) <= _SMALL_EDGE and model != "segresnet" else "own"


class _ResNet(ResNet):
    """MONAI's ResNet with the shortcuts of MedicalNet, which depend on the depth."""

    def __init__(self, model: str, channels: int, width: int, small: bool) -> None:
        block, layers = _RESNETS[model]
        bias, shortcut = get_medicalnet_pretrained_resnet_args(int(model.removeprefix("resnet")))
        super().__init__(
            block,
            layers,
            [width, 2 * width, 4 * width, 8 * width],
            n_input_channels=channels,
            conv1_t_size=3 if small else 7,
            conv1_t_stride=2,
            no_max_pool=small,
            shortcut_type=shortcut,
            bias_downsample=bias,
            feed_forward=False,
        )
        self.num_features = self.in_planes

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The layers in their order, as timm asks for them: fine-tuning gives each its own learning rate."""
        return {"stem": "^conv1|bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def _downsample_basic_block(self, x: Tensor, planes: int, stride: int, spatial_dims: int = 3) -> Tensor:  # noqa: ARG002
        """Shortcut A: every second voxel, and channels of zeros. MONAI 1.6 computes the same from `out.data`, so no gradient goes through
        these shortcuts."""
        out = x[:, :, ::stride, ::stride, ::stride]
        return F.pad(out, (0, 0, 0, 0, 0, 0, 0, planes - out.shape[1]))


class _DenseNet(DenseNet):
    """MONAI's DenseNet-121."""

    def __init__(self, channels: int, width: int, small: bool) -> None:
        super().__init__(3, channels, 1, init_features=width, growth_rate=width // 2)
        if small:
            self.features.conv0 = nn.Conv3d(channels, width, 3, stride=2, padding=1, bias=False)
            self.features.pool0 = nn.Identity()
        self.num_features = next(self.class_layers.parameters()).shape[1]
        self.class_layers.out = nn.Identity()


class _SegResNet(SegResEncoder):
    """The encoder of MONAI's SegResNetDS, whose last level is averaged."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(in_channels=channels, init_filters=width)
        self.num_features = width * 2 ** (len(self.layers) - 1)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - of all levels the last one
        """Features [B, D] of volumes [B, C, D, H, W]."""
        return super().forward(x)[-1].mean((2, 3, 4))
