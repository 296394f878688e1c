"""A study small enough for a test: made-up images with a bright corner in class "sick", and encoders of a few pixels."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from medssl.config import Finetune
from medssl.data.split import parse_labels
from medssl.evaluate.experiment import Experiment
from medssl.evaluate.schema import DataFacts, EncoderFacts, RunDescription
from medssl.evaluate.stats import ends
from medssl.evaluate.task import define_task

EDGE = 22


def both_ends(of: Any) -> tuple[float, float]:
    """Those of an interval, which must be there."""
    found = ends(of)
    assert found is not None
    return found


def hexed(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


class Corner(nn.Module):
    """An encoder that has learnt to look at the right place."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    @property
    def backbone(self) -> nn.Module:
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images / 255 if images.max() > 1 else images.float()
        return self.weight * torch.stack([images[:, 0, :8, :8].mean((1, 2)), images[:, 0, 10:, 10:].mean((1, 2))], dim=1)


class Noise(Corner):
    """An encoder that was never trained: two pixels away from the signal, other ones in each draw."""

    def __init__(self, draw: int = 0) -> None:
        super().__init__()
        self.row = nn.Buffer(torch.tensor(20 - draw))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images / 255 if images.max() > 1 else images.float()
        return self.weight * images[:, 0, int(self.row), 20:22]


class Faint(Corner):
    """An encoder that sees little: one pixel of the corner, above chance and far from perfect."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images / 255 if images.max() > 1 else images.float()
        return self.weight * torch.stack([images[:, 0, 2, 2], images[:, 0, 20, 20]], dim=1)


def unchanged(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    return image


def a_request(
    signal: float = 25,
    patients: int = 60,
    mode: str = "linear",
    labels: str = "20pct,100pct",
    draws: int = 2,
    findings: dict[str, np.ndarray] | None = None,
    ordered: bool = False,
    cells: Path | None = None,
    **settings: Any,
) -> Experiment:
    """Two images per patient; in class "sick" the upper left corner is brighter by `signal` of 255 grey levels, noise is 20. `findings`:
    texts of other label columns than that, one for each image."""
    generator = np.random.default_rng(0)
    sick = np.repeat(np.arange(patients) % 2, 2)
    images = generator.normal(100, 20, (2 * patients, 1, EDGE, EDGE))
    images[:, :, :8, :8] += signal * sick[:, None, None, None]
    owner = np.repeat(np.arange(patients), 2)
    findings = findings or {"finding": np.where(sick, "sick", "normal")}
    table = pd.DataFrame(
        {
            "key": [hexed("key", i) for i in range(2 * patients)],
            "patient": [hexed("patient", p) for p in owner.tolist()],
            "pixel_hash": [hexed("pixels", i) for i in range(2 * patients)],
            **{f"label:{name}": values for name, values in findings.items()},
        }
    )
    roles = np.where(owner < patients // 3, "test", "train")
    torch.manual_seed(0)
    asked = {"mode": mode, "draws": draws, "steps": 4, "batch_size": 8, "bootstraps": 100, **settings}
    return Experiment(
        images=images.clip(0, 255).astype(np.uint8),
        table=table,
        task=define_task(table, list(findings), roles, ordered),
        inits={"pretrained": Corner()},
        fractions=parse_labels(labels),
        settings=Finetune.model_validate(asked),
        seed=0,
        device=torch.device("cpu"),
        random=Noise,
        make_views=unchanged,
        cells=cells,
        description=RunDescription(data=DataFacts(name="made up"), encoder=EncoderFacts(method={"name": "pnnclr"})),
    )
