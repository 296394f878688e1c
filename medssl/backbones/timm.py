"""Any 2-D network of timm, by its timm name, for 1 to n channels, without its classifier.

`stem`: small images lose everything in a stem that divides the edge by four. "small" keeps the first convolution's stride at 1
(3 x 3) and drops the pooling, as SimCLR does for CIFAR (Chen et al. 2020, appendix B.9); "medium" keeps the pooling; "auto" takes
"small" up to 32 pixels, "medium" up to 64, and what timm built above. Networks without one `conv1` and a `maxpool` (vision
transformers, ConvNeXt) have their own stem only. `arguments` go to `timm.create_model` as they are, as in
`{channels: [32, 64, 128, 256]}` for a half-width ResNet. Weights are random here, and nothing is fetched from a model hub; those that
`init` names are loaded by `medssl.encoder.foreign`.

`zero_init_last`: timm starts each residual branch of a ResNet at zero, which helps long trainings with many images (Goyal et al. 2017,
section 5.1). Such a network is nearly linear before it is trained, and slow to become otherwise in the short trainings of small data
sets (docs/pnnclr.md has the measurements), so it is off here. Networks without that option are built as they are.
"""

from functools import partial
from typing import Any, Literal

import timm
from pydantic import Field, field_validator
from torch import nn

from medssl.config import PluginConfig
from medssl.errors import UserError, suggest
from medssl.types import Size

_OF_FILES = ("checkpoint_path", "cache_dir", "checkpoint", "weights")  # arguments of timm that name files


class Config(PluginConfig):
    name: str = "timm"
    model: str = Field(
        default="resnet18", description="The name of the network in timm, such as resnet18, resnet50 or vit_small_patch16_224."
    )
    stem: Literal["auto", "small", "medium", "own"] = Field(
        default="auto",
        description="How the network begins: own (as in timm), small (no reduction, for images up to 64 pixels), medium (half as much); "
        "auto chooses by the size.",
    )
    zero_init_last: bool = Field(default=False, description="Whether the residual branches of a ResNet start at zero.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="More arguments for timm's network, such as {drop_path_rate: 0.1}.")
    init: str = Field(
        default="", description="Weights that pretraining starts from (--init): a file, a folder of a model hub or a run; empty is random."
    )
    init_sha256: str = Field(default="", description="The SHA-256 of these weights, which medssl writes: other weights are refused.")

    @field_validator("arguments")
    @classmethod
    def _name_no_files(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        named = [name for name in arguments if name.startswith("pretrained") or name in _OF_FILES]
        if named:
            raise ValueError(
                f"{named[0]} would load a file or ask the network. Weights of another network: --encoder FILE, finetune.versus"
            )
        return arguments


def build(config: Config, channels: int, size: Size) -> nn.Module:
    """A network from images [B, `channels`, `size`, `size`] to features [B, D], D = `num_features`.

    Raises UserError for an unknown name, for arguments that the network refuses, and for whole volumes.
    """
    if not isinstance(size, int):
        raise UserError("backbone: the networks of timm are for images. For whole volumes: --set backbone=monai")
    if config.model not in timm.list_models():
        raise UserError(f"backbone.model: timm has no model {config.model!r}. {suggest(config.model, timm.list_models())}")
    create = partial(timm.create_model, config.model, pretrained=False, in_chans=channels, num_classes=0)
    arguments = _create_arguments(config, size)
    try:
        try:
            network = create(**{"zero_init_last": config.zero_init_last, **arguments})
        except TypeError as error:
            if "zero_init_last" not in str(error) or "zero_init_last" in arguments:
                raise
            network = create(**arguments)  # a network without that option
    except (TypeError, AssertionError, ValueError) as error:
        raise UserError(f"backbone.arguments: timm cannot build {config.model!r} with {config.arguments}: {error}") from None
    _fit_stem(network, config, size)
    return network


def _create_arguments(config: Config, size: int) -> dict[str, Any]:
    """Networks built for one image size (vision transformers) must be told it; convolutional ones refuse the argument."""
    known = timm.models.get_pretrained_cfg(config.model)
    return {**({"img_size": size} if known and known.fixed_input_size else {}), **config.arguments}


def resolve_stem(stem: str, size: int) -> str:
    """The stem for images of `size` pixels: `stem` itself, or what "auto" chooses for a network that has a choice."""
    return stem if stem != "auto" else "small" if size <= 32 else "medium" if size <= 64 else "own"


def _fit_stem(network: nn.Module, config: Config, size: int) -> None:
    stem = resolve_stem(config.stem, size)
    conv, pool = getattr(network, "conv1", None), getattr(network, "maxpool", None)
    if stem == "own":
        return
    if not isinstance(conv, nn.Conv2d) or pool is None:
        if config.stem == "auto":
            return
        raise UserError(f"backbone.stem: {config.model!r} has no stem of one convolution and a pooling. Use backbone.stem=own.")
    network.conv1 = nn.Conv2d(conv.in_channels, conv.out_channels, 3, stride=1, padding=1, bias=False)
    if stem == "small":
        network.maxpool = nn.Identity()
