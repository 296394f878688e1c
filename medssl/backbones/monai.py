"""The networks of MONAI for whole volumes, for 1 to n channels, without their classifiers; and that of nnU-Net, `resenc` (`_resenc.py`).

The ResNets are those of MedicalNet (Chen et al. 2019, "Med3D") and of the encoder of MONAI's `FlexibleUNet`: tensors with the same names
and shapes, if `stem` is "own" and `width` 64. `segresnet` is the encoder of MONAI's `SegResNetDS`, `swin` that of `SwinUNETR`
(Hatamizadeh et al. 2022), and `vit` that of `UNETR` (Hatamizadeh et al. 2021) if `patch` is 16. The features are the means over the last
level of a network. For a Swin transformer these are the features of its authors (Liu et al. 2021, appendix A2.1), here after the layer
normalisation of `SwinUNETR`. `vit` has no class token, as in `UNETR`: its features are the means over the normalised tokens (Beyer et al.
2022, arXiv 2205.01580).

`stem`: small volumes lose everything in a stem that divides the edge by four. "small" divides the edge by two: its first convolution is
3 x 3 x 3, and the pooling is dropped. "auto" takes "small" up to 32 voxels, and what MONAI built above. `segresnet` and `resenc` keep the
whole resolution in their first level, and have their own stem only, as the transformers have.

`width`: the channels of the first level; each level has twice as many as the one before. `swin` divides the edge by two before its first
level and after each of its four, so its features are 16 times as wide; where an edge is odd, MONAI adds zeros. The tokens of `vit` have
`width` channels in all 12 layers. The heads of both are MONAI's, so their width is a multiple of 12.
"""

from collections.abc import Mapping
from typing import Any, Literal

from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.resnet import ResNet, get_medicalnet_pretrained_resnet_args
from monai.networks.nets.segresnet_ds import SegResEncoder
from monai.networks.nets.swin_unetr import SwinTransformer
from monai.networks.nets.vit import ViT
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.backbones import _resenc
from medssl.config import PluginConfig
from medssl.errors import UserError
from medssl.types import Size, describe_size, edges

_SMALL_EDGE = 32
_OWN_STEM = ("segresnet", "swin", "vit", "resenc")
_USUAL_WIDTH = {"swin": 48, "vit": 768, "resenc": 32}  # that of published weights, that of UNETR, and that of nnU-Net
_MAX_WIDTH = 512  # of all but vit, whose width does not grow with its layers
_PATCH = 16
_RESNETS: dict[str, tuple[str, list[int]]] = {  # the kind of block, and how many of them each level has
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}


class Config(PluginConfig):
    name: str = "monai"
    model: Literal["resnet10", "resnet18", "resnet34", "resnet50", "densenet121", "segresnet", "swin", "vit", "resenc"] = Field(
        default="resnet18", description="The name of the network in MONAI, or resenc, nnU-Net's residual encoder."
    )
    stem: Literal["auto", "small", "own"] = Field(
        default="auto",
        description="How the network begins: own (as in MONAI, divides the edge by four) or small (by two, for volumes up to 32 voxels); "
        "auto chooses by the size.",
    )
    width: int = Field(
        default=64,
        ge=4,
        le=1536,
        description="The channels of the first level; each level has twice as many. If not given, swin has 48, vit 768 and resenc 32; swin "
        "and vit take multiples of 12.",
    )
    patch: int = Field(default=_PATCH, ge=2, le=128, description="The edge in voxels of the cubes that vit makes its tokens of.")
    init: str = Field(
        default="", description="Weights that pretraining starts from (--init): a file, a folder of a model hub or a run; empty is random."
    )
    init_sha256: str = Field(default="", description="The SHA-256 of these weights, which medssl writes: other weights are refused.")

    @model_validator(mode="before")
    @classmethod
    def _take_the_usual_width(cls, values: Any) -> Any:
        usual = _USUAL_WIDTH.get(str(values.get("model"))) if isinstance(values, Mapping) else None
        return values if usual is None else {"width": usual, **values}


def build(config: Config, channels: int, size: Size) -> nn.Module:
    """A network from volumes [B, `channels`, slices, rows, columns] to features [B, D], D = `num_features`.

    Raises UserError for images, for a stem, a width or a size that the network cannot have, and where the package of resenc is missing.
    """
    if isinstance(size, int):
        raise UserError("backbone: the networks of monai are for whole volumes (--set data.volumes=whole). For images: --set backbone=timm")
    _refuse_unsuitable(config, size)
    if config.model == "segresnet":
        return _SegResNet(channels, config.width)
    if config.model == "swin":
        return _Swin(channels, config.width)
    if config.model == "resenc":
        return _resenc.ResEnc(channels, config.width)
    if config.model == "vit":
        return _ViT(channels, config.width, config.patch, size)
    small = resolve_stem(config.model, config.stem, size) == "small"
    if config.model == "densenet121":
        return _DenseNet(channels, config.width, small)
    return _ResNet(config.model, channels, config.width, small)


def resolve_stem(model: str, stem: str, size: Size) -> str:
    """The stem for volumes of that size: `stem` itself, or what "auto" chooses."""
    return stem if stem != "auto" else "small" if max(edges(size)) <= _SMALL_EDGE and model not in _OWN_STEM else "own"


def _refuse_unsuitable(config: Config, size: tuple[int, int, int]) -> None:
    if config.model in _OWN_STEM and config.stem == "small":
        raise UserError(f"backbone.stem: {config.model} has its own stem only. Use backbone.stem=own.")
    if config.model in ("swin", "vit") and config.width % 12:
        usual = _USUAL_WIDTH[config.model]
        raise UserError(f"backbone.width: {config.model} takes multiples of 12, and {config.width} is none. Use backbone.width={usual}.")
    if config.model != "vit" and config.width > _MAX_WIDTH:
        raise UserError(f"backbone.width: {config.width} is too much for {config.model}, which takes {_MAX_WIDTH} at most.")
    if config.model == "vit" and any(edge % config.patch for edge in size):
        raise UserError(
            f"backbone.patch: {describe_size(size)} cannot be cut into cubes of {config.patch} voxels. Use another backbone.patch, or "
            f"multiples of {config.patch} for data.size."
        )
    if config.model == "resenc" and any(edge % _resenc.DIVISOR or edge < 2 * _resenc.DIVISOR for edge in size):
        raise UserError(
            f"data.size: {describe_size(size)} do not fit resenc, which divides each edge by {_resenc.DIVISOR} and needs two voxels then. "
            f"Use multiples of {_resenc.DIVISOR} from {2 * _resenc.DIVISOR} on."
        )
    if config.model != "vit" and config.patch != _PATCH:
        raise UserError(f"backbone.patch is for vit, and {config.model} has no patches. Leave it out.")


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


class _Swin(SwinTransformer):
    """The encoder of MONAI's SwinUNETR, whose last level is averaged."""

    def __init__(self, channels: int, width: int) -> None:
        patch, window, layers, heads = (2, 2, 2), (7, 7, 7), (2, 2, 2, 2), (3, 6, 12, 24)  # as in SwinUNETR
        super().__init__(channels, width, window, patch, layers, heads)
        self.num_features = 16 * width

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - of all levels the last one
        """Features [B, D] of volumes [B, C, D, H, W]."""
        return super().forward(x)[-1].mean((2, 3, 4))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The layers in their order, as timm asks for them."""
        last = (r"^layers(\d+)\.0\.downsample", (99999,))
        return {"stem": "^patch_embed", "blocks": r"^layers(\d+)" if coarse else [(r"^layers(\d+)\.0\.blocks\.(\d+)", None), last]}


class _ViT(ViT):
    """The encoder of MONAI's UNETR, whose tokens are averaged."""

    def __init__(self, channels: int, width: int, patch: int, size: tuple[int, int, int]) -> None:
        super().__init__(channels, size, patch, hidden_size=width, mlp_dim=4 * width)
        self.num_features = width
        self.grid = tuple(edge // patch for edge in size)
        for name, parameter in self.named_parameters():  # which MONAI builds and does not use
            parameter.requires_grad_(".norm_cross_attn." not in name)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - not the blocks' tokens
        """Features [B, D] of volumes [B, C, D, H, W]."""
        return super().forward(x)[0].mean(1)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002 - each block is a layer
        """The layers in their order, as timm asks for them."""
        return {"stem": "^patch_embedding", "blocks": [(r"^blocks\.(\d+)", None), ("^norm", (99999,))]}
