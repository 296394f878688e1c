"""What happens beside the steps of a pretraining: rows for the records, online kNN, collapse alarm, checkpoints, the wish to stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl.config import Config
from medssl.data.loader import Loader
from medssl.evaluate.features import extract
from medssl.run.data import Prepared
from medssl.tracking.tracker import Tracker
from medssl.train.loop import Plan
from medssl.train.monitor import embedding_std, knn_auroc, rankme
from medssl.train.stop import StopFlag
from medssl.types import Reporter, Step

_BANK_ROWS = 5000


@dataclass
class Job:
    """All that a pretraining is made of, ready to run from step `start`."""

    folder: Path
    config: Config
    found: Prepared
    method: Any  # an nn.Module that satisfies types.Method
    optimiser: torch.optim.Optimizer
    loader: Loader
    plan: Plan
    start: int
    notes: list[str]


class Watch:
    """The loop's `on_step`. `last` holds the newest value of everything that was measured."""

    def __init__(self, reporter: Reporter, tracker: Tracker, job: Job, stop: StopFlag, save: Callable[[int], None]) -> None:
        self._reporter, self._tracker, self._stop, self._save = reporter, tracker, stop, save
        self._config, self._found, self._encoder = job.config, job.found, job.method.encoder
        self._steps_per_epoch, self._total = job.loader.steps_per_epoch, job.plan.total_steps
        self._clock, self._images, self._alarmed = time.monotonic(), 0, False
        self.last: dict[str, float] = {}

    def __call__(self, done: int, step: Step, lr: float) -> bool:
        monitor, train = self._config.monitor, self._config.train
        ends = done >= self._total
        self._images += train.batch_size
        row: dict[str, float] = {}
        if done % monitor.log_every_steps == 0 or ends:
            row |= self._rates(step, lr)
        if done % (monitor.knn_every_epochs * self._steps_per_epoch) == 0 or ends:
            row |= self._health()
        if row:
            self.last |= row
            self._tracker.log({"step": done, "epoch": round(done / self._steps_per_epoch, 4), **row})
        self._reporter.progress("pretrain", done, self._total, {"epoch": done // self._steps_per_epoch, **self.last})
        if done % train.save_every_steps == 0 and not ends:
            self._save(done)
        return bool(self._stop)

    def _rates(self, step: Step, lr: float) -> dict[str, float]:
        now = time.monotonic()
        speed = self._images / (now - self._clock)
        self._clock, self._images = now, 0
        logs = {name: value.detach() for name, value in step.logs.items()}
        row = {"loss": float(step.loss.detach()), "lr": lr, "images_per_second": round(speed, 2)}
        row |= {name: float(value) for name, value in logs.items() if value.ndim == 0}
        if "embedding" in logs:
            row["embedding_std"] = embedding_std(logs["embedding"])
            self._alarm(row["embedding_std"])
        return row

    def _alarm(self, std: float) -> None:
        if std < self._config.monitor.collapse_std and not self._alarmed:
            self._alarmed = True
            self._reporter.warn(
                f"The embeddings collapse: their spread is {std:.3f}, where 1 is a sphere and 0 a point. The loss does not show it. "
                "Likely causes: a learning rate that is too high, too short a warm-up, views that do not differ. Stop and change one."
            )

    def _health(self) -> dict[str, float]:
        """RankMe of the features, and the kNN's AUROC on patients that pretraining does not see. Its time is not counted as training."""
        began = time.monotonic()
        found, store = self._found, self._found.store
        bank = _spread(found.pretraining)
        device = next(self._encoder.parameters()).device
        features = extract(self._encoder, store.images, bank, device)
        row = {"rankme": rankme(features)}
        if found.stratum:
            labels = store.table[f"label:{found.stratum}"].to_numpy(str)
            query = np.flatnonzero(found.held & (labels != ""))
            known = labels[bank] != ""
            classes, numbers = np.unique(labels[np.concatenate([bank[known], query])], return_inverse=True)
            if len(query) and len(classes) > 1:
                split = int(known.sum())
                queries = extract(self._encoder, store.images, query, device)
                k = self._config.monitor.knn_neighbours
                row["knn"] = knn_auroc(features[known], numbers[:split], queries, numbers[split:], k)
        self._clock += time.monotonic() - began
        return row


def _spread(rows: np.ndarray) -> np.ndarray:
    """5000 of the rows at most, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _BANK_ROWS)).astype(int)]
