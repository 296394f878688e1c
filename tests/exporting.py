"""Small encoders to export, and a user who types what the export says."""

from pathlib import Path
from typing import Any

import torch

from medssl.encoder import artefact
from medssl.nn import Encoder
from medssl.types import Size, edges

TINY = {"name": "timm", "model": "resnet18", "stem": "own", "arguments": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
PATIENT, PIXELS = "a1b2c3d4e5f60718", "0817f6e5d4c3b2a1"
SECRETS = (
    "/data/ward/labels.csv",
    "/data/ward",
    "/data/other.safetensors",
    "/data/preset.yaml",
    "secret-run",
    "0.000123456",
    PATIENT,
    PIXELS,
)
CARD = {  # what a run knows, with all that must not leave
    "method": {"name": "pnnclr", "title": "pNNCLR", "uses_labels": False},
    "pretraining": {"patients": [PATIENT], "pixels": [PIXELS]},
    "config": {
        "data": {"path": "/data/ward", "source": {"name": "folder", "table": "/data/ward/labels.csv"}, "size": 16, "window": "header"},
        "backbone": TINY,
        "train": {"lr": 0.000123456, "optimiser": "adamw"},
        "finetune": {"versus": ["/data/other.safetensors"], "labels": "10pct"},
        "preset": "/data/preset.yaml",
        "seed": 3,
    },
    "facts": {"knn": 0.75, "lr": 0.000123456},
    "provenance": {"medssl": "0.1.0", "torch": "2.15.0", "finished": "2026-11-29T02:33:58Z", "run": "secret-run"},
    "intended_use": "Research.",
}


def make_encoder(folder: Path, backbone: dict[str, Any], channels: int = 1, size: Size = 16, **card: Any) -> tuple[Encoder, dict[str, Any]]:
    """An encoder with statistics that are not the initial ones, and its card, saved to and loaded from the folder."""
    mean, std = (
        torch.tensor(card.pop(name, usual)[:channels]) for name, usual in (("mean", (0.41, 0.52, 0.33)), ("std", (0.21, 0.32, 0.13)))
    )
    encoder = artefact.build_encoder(backbone, channels, size, mean, std, seed=3)
    with torch.no_grad():
        encoder.train()
        encoder(torch.rand(16, channels, *edges(size)))
    artefact.save(encoder, folder, backbone=backbone, channels=channels, size=size, card={**CARD, **card})
    return artefact.load(folder)


def type_in(lines: str, images: Any) -> dict[str, Any]:
    """All names after the lines were typed by a user who has `images`."""
    names: dict[str, Any] = {"images": images}
    exec(lines, names)  # noqa: S102 - our own lines
    return names


def agree(features: Any, encoder: Encoder, images: torch.Tensor, share: float = 1e-5) -> bool:
    """Whether the features are those of the encoder, up to that share of the largest."""
    with torch.no_grad():
        expected = encoder(images)
    found = torch.as_tensor(features).detach()
    return found.shape == expected.shape and float((found - expected).abs().max()) <= share * float(expected.abs().max())
