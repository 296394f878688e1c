"""A file of tensors for a network of torchvision: timm's ResNets and DenseNets have the same names there, other networks do not.

The card is in the file's metadata, under "card".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medssl.encoder.export import stem
from medssl.encoder.export.comparison import features_lines, largest_difference, standardised
from medssl.encoder.export.options import Options
from medssl.encoder.export.timm_folder import backbone_tensors
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = ".safetensors", 1e-5, ()
_RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
)
_DENSENETS = ["densenet121", "densenet161", "densenet169", "densenet201"]


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:
    """Compares names and shapes with those of torchvision's network, which is built without memory."""
    model = card["backbone"].get("model", card["backbone"]["name"])
    if not isinstance(card["size"], int):
        return f"its {model} is for whole volumes, and the networks of torchvision are for images"
    if model not in (*_RESNETS, *_DENSENETS):
        return f"{model} is no network of torchvision with the same tensors; only ResNets and DenseNets are"
    with torch.device("meta"):
        expected = _build(encoder.backbone, card).state_dict()
    own = encoder.backbone.state_dict()
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in expected.items()}:
        return f"its {model} has other widths or layers ({card['backbone'].get('arguments')}) than torchvision's, which cannot be changed"
    return None


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Options) -> None:  # noqa: ARG001
    """Writes the tensors, with the card in the metadata."""
    save_file(backbone_tensors(encoder), path, metadata={"format": "pt", "card": json.dumps(card)})


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:  # noqa: ARG001
    """Loads as `usage` says."""
    network = _build(encoder.backbone, card)
    network.load_state_dict(load_file(path), strict=True)
    return largest_difference(standardised(network.eval(), card), encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines."""
    model, channels = card["backbone"]["model"], card["channels"]
    dense = model in _DENSENETS
    if not stem.own_stem(backbone, card):
        first = stem.lines(backbone, "network")
    elif channels == 3:
        first = []
    else:
        layer, width = ("features.conv0", 96 if model == "densenet161" else 64) if dense else ("conv1", 64)
        first = [f"network.{layer} = torch.nn.Conv2d({channels}, {width}, 7, stride=2, padding=3, bias=False)"]
    return "\n".join(
        [
            "import torch, torchvision",
            "from safetensors.torch import load_file",
            f"network = torchvision.models.{model}()",
            *first,
            f"network.{'classifier' if dense else 'fc'} = torch.nn.Identity()",
            f'network.load_state_dict(load_file("{path}"), strict=True)',
            *features_lines(card),
        ]
    )


def _build(backbone: nn.Module, card: Mapping[str, Any]) -> nn.Module:
    """The network of torchvision, changed as `usage` says, with random weights."""
    import torchvision

    network: Any = getattr(torchvision.models, card["backbone"]["model"])()
    if card["backbone"]["model"] in _DENSENETS:
        width = network.features.conv0.out_channels
        network.features.conv0 = nn.Conv2d(card["channels"], width, 7, stride=2, padding=3, bias=False)
        network.classifier = nn.Identity()
        return network
    network.conv1 = nn.Conv2d(card["channels"], 64, 7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    if not stem.own_stem(backbone, card):
        stem.change(network, backbone)
    return network
