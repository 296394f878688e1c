"""Stems for small images, which networks of timm, torchvision and MONAI do not have: `backbones.timm` puts them into a network of timm."""

from collections.abc import Mapping
from typing import Any

from torch import nn


def own_stem(backbone: nn.Module, card: Mapping[str, Any]) -> bool:
    """Whether the network begins as timm builds it."""
    conv = getattr(backbone, "conv1", None)
    changed = card["backbone"].get("stem", "auto") != "own" and hasattr(backbone, "maxpool")
    return not (changed and isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.stride == (1, 1))


def has_pooling(backbone: Any) -> bool:
    """Whether a pooling follows the first convolution: it does in the stem "medium", and not in "small"."""
    return not isinstance(backbone.maxpool, nn.Identity)


def first_convolution(backbone: Any) -> str:
    """The first convolution of the stems "small" and "medium", as an expression in Python."""
    conv = backbone.conv1
    return f"torch.nn.Conv2d({conv.in_channels}, {conv.out_channels}, 3, padding=1, bias=False)"


def lines(backbone: nn.Module, name: str) -> list[str]:
    """The Python lines that give the network in the variable `name` this stem."""
    return [f"{name}.conv1 = {first_convolution(backbone)}", *([] if has_pooling(backbone) else [f"{name}.maxpool = torch.nn.Identity()"])]


def change(network: Any, backbone: Any) -> None:
    """What `lines` says, done to `network`."""
    conv = backbone.conv1
    network.conv1 = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=False)
    if not has_pooling(backbone):
        network.maxpool = nn.Identity()
