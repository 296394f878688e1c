"""A folder of timm, which is also a repository of the Hugging Face Hub: `model.safetensors` with the tensors of the backbone, `config.json`
with the architecture, its arguments and how images are standardised, and README.md.

config.json names no classifier layer: with one, timm would not compare the names of tensors where a user asks for another number of
classes, and a missing tensor would be silent. So `num_classes=0` is loaded, and `reset_classifier(2)` adds a classifier.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medssl.encoder.export import stem
from medssl.encoder.export.comparison import features_lines, largest_difference, standardised
from medssl.encoder.export.options import Options
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = "", 1e-5, ()
MODEL_CARD = "README.md"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001 - the contract of a format
    """Only networks of timm fit."""
    return None if card["backbone"]["name"] == "timm" else "its backbone is no network of timm"


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Options) -> None:  # noqa: ARG001
    """Writes weights and configuration."""
    path.mkdir()
    save_file(backbone_tensors(encoder), path / WEIGHTS)
    channels, size = card["channels"], card["size"]
    config = {
        "architecture": card["backbone"]["model"],
        "num_classes": 0,
        "num_features": card["num_features"],
        "model_args": {"in_chans": channels, **_arguments(card)},
        "pretrained_cfg": {
            "input_size": [channels, size, size],
            "mean": card["mean"],
            "std": card["std"],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "num_classes": 0,
        },
    }
    (path / CONFIG).write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:  # noqa: ARG001
    """Loads as `usage` says."""
    import timm

    if stem.own_stem(encoder.backbone, card):
        network = timm.create_model(f"local-dir:{path}", pretrained=True)
    else:
        network = timm.create_model(f"local-dir:{path}", pretrained=False)
        stem.change(network, encoder.backbone)
        network.load_state_dict(load_file(path / WEIGHTS), strict=True)
    return largest_difference(standardised(network.eval(), card), encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines."""
    features = features_lines(card)
    if stem.own_stem(backbone, card):
        return "\n".join(
            [
                *(["import torch"] if card["channels"] > 1 else []),
                "import timm",
                f'network = timm.create_model("local-dir:{path}", pretrained=True)  # network.reset_classifier(2) adds a classifier',
                *features,
            ]
        )
    return "\n".join(
        [
            "import timm, torch",
            "from safetensors.torch import load_file",
            f'network = timm.create_model("local-dir:{path}", pretrained=False)  # random until its weights are loaded below',
            *stem.lines(backbone, "network"),
            f'network.load_state_dict(load_file("{path}/{WEIGHTS}"), strict=True)',
            *features,
        ]
    )


def backbone_tensors(encoder: Encoder) -> dict[str, Tensor]:
    """The tensors of the backbone, by their names in its network."""
    return {name: tensor.detach().contiguous().cpu() for name, tensor in encoder.backbone.state_dict().items()}


def _arguments(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the network is built with beside its channels; transformers need the size of their images."""
    import timm

    known = timm.models.get_pretrained_cfg(card["backbone"]["model"])
    return {**({"img_size": card["size"]} if known and known.fixed_input_size else {}), **card["backbone"].get("arguments", {})}
