"""What happens beside the steps of a pretraining: rows for the records, monitors, collapse alarm, checkpoints, the wish to stop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medssl import methods
from medssl.config import Config
from medssl.data.loader import Loader
from medssl.run import health, neighbours
from medssl.run.alarm import EVERY_STEPS, Alarm
from medssl.run.data import Prepared
from medssl.tracking import jsonl
from medssl.tracking.tracker import Tracker
from medssl.train.diagnosis import Examination
from medssl.train.loop import Plan
from medssl.train.stop import StopFlag
from medssl.types import Reporter, Step

_SHOWN = ("loss", "lr", "images_per_second", "embedding_std", "bad_steps", "knn")  # beside the bar; all else is in metrics.jsonl


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
    """The loop's `on_step`. `last` holds the newest value of everything that was measured, where it was finite."""

    def __init__(self, reporter: Reporter, tracker: Tracker, job: Job, stop: StopFlag, save: Callable[[int], None]) -> None:
        self._reporter, self._tracker, self._job, self._stop, self._save = reporter, tracker, job, stop, save
        views = job.loader.batch(job.start).views[0].to(job.plan.device)
        ranked = not methods.learns_from_labels(job.config.method.name)
        self._examine = Examination(job.method.encoder, views, ranked=ranked)
        self._alarm = Alarm(reporter, job.config.monitor, job.folder)
        self._bad_steps = max((row.get("bad_steps", 0) for row in jsonl.read(job.folder / "metrics.jsonl")), default=0)
        self._clock, self._images = time.monotonic(), 0
        self.last: dict[str, float] = {}

    def __call__(self, done: int, step: Step, lr: float, applied: bool) -> bool:
        job, monitor, train = self._job, self._job.config.monitor, self._job.config.train
        per_epoch, total = job.loader.steps_per_epoch, job.plan.total_steps
        ends = done >= total
        self._images += train.batch_size
        self._bad_steps += not applied
        row: dict[str, float] = {}
        if done % monitor.log_every_steps == 0 or ends or not applied:
            row |= self._rates(done, step, lr, applied)
        if done % (monitor.knn_every_epochs * per_epoch) == 0 or ends:
            row |= self._look(done, step if applied else None)
        if row:
            self.last |= {name: value for name, value in row.items() if math.isfinite(value)}
            self._tracker.log({"step": done, "epoch": round(done / per_epoch, 4), **row})
        shown = {name: self.last[name] for name in _SHOWN if name in self.last}
        self._reporter.progress("pretrain", done, total, {"epoch": done // per_epoch, **shown})
        if done % EVERY_STEPS == 0 and applied:
            self._alarm(done, self._examine(step, lr))
        if done % train.save_every_steps == 0 and not ends:
            self._save(done)
        return bool(self._stop)

    def _rates(self, done: int, step: Step, lr: float, applied: bool) -> dict[str, float]:
        now = time.monotonic()
        speed = self._images / (now - self._clock)
        self._clock, self._images = now, 0
        row = {"loss": float(step.loss.detach()), "lr": lr, "images_per_second": round(speed, 2), "bad_steps": self._bad_steps}
        return row | (health.of_step(step, done - 1) if applied else {})

    def _look(self, done: int, step: Step | None) -> dict[str, float]:
        """The encoder's health, and a picture of what `step` looked up. Their time is not counted as training."""
        began = time.monotonic()
        job = self._job
        row = health.of_encoder(job.method.encoder, job.found, job.config.monitor.knn_neighbours, job.plan.device)
        if step is not None and step.lookup is not None:
            lines = neighbours.lines(step.lookup, job.method.support, done - 1)
            neighbours.save(job.folder / "neighbours.png", lines, job.found.store.images, job.found.classes)
        self._clock += time.monotonic() - began
        return row
