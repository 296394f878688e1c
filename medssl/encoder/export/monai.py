"""A file of tensors for a ResNet of MONAI, whose tensors have the same names. Only the right arguments give the same features.

MONAI's first convolution has stride 1 unless `conv1_t_stride=2` is given: the tensors then load with strict=True, and the features are
others. So `usage` gives all arguments, and the check compares features.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from medssl.encoder.export import stem, torchvision
from medssl.encoder.export.comparison import features_lines, largest_difference, standardised
from medssl.encoder.export.options import Options
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = torchvision.SUFFIX, 1e-5, ()
_RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:
    """The ResNets of MONAI have the tensors of torchvision's, so that MONAI, which takes seconds, need not be imported to compare them."""
    model = card["backbone"].get("model", card["backbone"]["name"])
    if not isinstance(card["size"], int):
        return f"its {model} is MONAI's network of whole volumes already, whose tensors are backbone.* in the format medssl"
    if model not in _RESNETS:
        return f"{model} is no network of MONAI with the same tensors; only {', '.join(_RESNETS)} are"
    reason = torchvision.refusal(encoder, card)
    return reason and reason.replace("torchvision's", "MONAI's")


write = torchvision.write


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:  # noqa: ARG001
    """Loads as `usage` says."""
    import monai.networks.nets.resnet as resnets

    network = getattr(resnets, card["backbone"]["model"])(**arguments(encoder.backbone, card))
    network.load_state_dict(load_file(path), strict=True)
    return largest_difference(standardised(network.eval(), card), encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines."""
    model = card["backbone"]["model"]
    given = ", ".join(f"{name}={value!r}" for name, value in arguments(backbone, card).items()).replace("'", '"')
    return "\n".join(
        [
            *(["import torch"] if card["channels"] > 1 else []),
            f"from monai.networks.nets import {model}",
            "from safetensors.torch import load_file",
            f"network = {model}({given})",
            f'network.load_state_dict(load_file("{path}"), strict=True)',
            *features_lines(card),
        ]
    )


def arguments(backbone: nn.Module, card: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of MONAI's ResNet."""
    if stem.own_stem(backbone, card):
        first = {"conv1_t_stride": 2}
    else:
        first = {"conv1_t_size": 3, "conv1_t_stride": 1, "no_max_pool": not stem.has_pooling(backbone)}
    return {
        "spatial_dims": 2,
        "n_input_channels": card["channels"],
        "feed_forward": False,
        "shortcut_type": "B",
        "bias_downsample": False,
        **first,
    }
