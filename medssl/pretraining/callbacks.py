"""What a pretraining does after each step: log metrics, evaluate the encoder, check for collapse, save checkpoints, stop on a signal."""

import math
import time
from contextlib import suppress

from medssl import methods
from medssl.planes import Planes
from medssl.pretraining import health, support_set_figure
from medssl.pretraining.alarm import EVERY_STEPS, Alarm
from medssl.pretraining.time_left import TimeLeft
from medssl.pretraining.trainer import Training, training_state
from medssl.tracking import jsonl
from medssl.tracking.tracker import Tracker
from medssl.train.bad_steps import Applied, BadSteps
from medssl.train.checkpoint import Saver
from medssl.train.diagnosis import CollapseMonitor
from medssl.train.stop import StopFlag, StopRequested
from medssl.types import Reporter, Step

_PROGRESS_VALUES = ("loss", "lr", "images_per_second", "embedding_std", "bad_steps", "knn")  # metrics.jsonl has all others


def _steps_between_evaluations(job: Training) -> int:
    return job.config.monitor.knn_every_epochs * job.feed.steps_per_epoch


def _is_evaluation_step(job: Training, done: int) -> bool:
    """Whether the encoder is evaluated after this step."""
    return done % _steps_between_evaluations(job) == 0 or done >= job.plan.total_steps


class StepCallback:
    """The loop's `on_step` in each process. The first process has a `monitor`; all processes agree whether to stop. `signal`: the number
    of the signal that ended the run, or 0."""

    def __init__(self, job: Training, stop: StopFlag, monitor: "TrainingMonitor | None") -> None:
        self._job, self._stop, self._monitor = job, stop, monitor
        self.signal = 0

    def __call__(self, done: int, step: Step, lr: float, applied: Applied) -> bool:
        if self._monitor:
            self._monitor(done, step, lr, applied)
        if _is_evaluation_step(self._job, done):
            self._job.team.wait()
        self.signal = self._job.team.latest_maximum(self._stop.signal)
        return self.signal > 0


class TrainingMonitor:
    """What the first process does after each step. `last`: the newest finite value of each metric, by name."""

    def __init__(self, reporter: Reporter, tracker: Tracker, job: Training, stop: StopFlag) -> None:
        self._reporter, self._tracker, self._job, self._stop = reporter, tracker, job, stop
        views = job.feed.batch(job.start).views[0]
        check_rank = not methods.uses_labels(job.config.method.name)
        self._measure_collapse = CollapseMonitor(job.method.encoder, views, check_rank=check_rank)
        self._save = Saver(job.folder, reporter.warn)
        self._alarm = Alarm(reporter, job.config.monitor, job.folder)
        self._bad = BadSteps(max((row.get("bad_steps", 0) for row in jsonl.read(job.folder / "metrics.jsonl")), default=0))
        self._clock, self._images = time.monotonic(), 0
        self._time_left = TimeLeft(job.start, job.plan.total_steps, _steps_between_evaluations(job), job.config.train.save_every_steps)
        self.last: dict[str, float] = {}

    def __call__(self, done: int, step: Step, lr: float, applied: Applied) -> None:
        job, monitor, train = self._job, self._job.config.monitor, self._job.config.train
        per_epoch, total = job.feed.steps_per_epoch, job.plan.total_steps
        is_last = done >= total
        self._images += train.batch_size
        bad_before, is_logged = self._bad.total, done % monitor.log_every_steps == 0 or is_last
        self._bad.add(applied, wait=is_logged)
        row: dict[str, float] = {}
        if is_logged or self._bad.total > bad_before:
            row |= self._step_row(done, step, lr, applied)
        if _is_evaluation_step(job, done):
            with self._time_left.measure("evaluation"):
                row |= self._evaluate_encoder(done, step if applied else None)
        if row:
            self.last |= {name: value for name, value in row.items() if math.isfinite(value)}
            self._tracker.log({"step": done, "epoch": round(done / per_epoch, 4), **row})
        if done % EVERY_STEPS == 0 and applied:
            self._alarm(done, self._measure_collapse(step, lr))
        if done % train.save_every_steps == 0 and not is_last:
            with self._time_left.measure("checkpoint"):
                self._save(training_state(job, done))
        shown = {name: self.last[name] for name in _PROGRESS_VALUES if name in self.last}
        if self._job.config.data.volumetric and (speed := shown.pop("images_per_second", None)) is not None:
            shown["volumes_per_second"] = speed
        self._reporter.progress("pretrain", done, total, {"epoch": done // per_epoch, **shown, **self._time_left.facts(done)})

    def _step_row(self, done: int, step: Step, lr: float, applied: Applied) -> dict[str, float]:
        now = time.monotonic()
        speed = self._images / (now - self._clock)
        self._clock, self._images = now, 0
        row = {"loss": float(step.loss.detach()), "lr": lr, "images_per_second": round(speed, 2), "bad_steps": self._bad.total}
        return row | (health.step_metrics(step, done - 1) if applied else {})

    def _evaluate_encoder(self, done: int, step: Step | None) -> dict[str, float]:
        """The metrics of the encoder; also saves the figure of the look-up of `step`. The clock of the training speed stands still."""
        start = time.monotonic()
        job = self._job
        row: dict[str, float] = {}
        with suppress(StopRequested), self._stop.interruptible():
            row = health.encoder_metrics(job.method.encoder, job.dataset, job.config.monitor.knn_neighbours, job.plan.device)
        if step is not None and step.lookup is not None:
            lines = support_set_figure.lookup_lines(step.lookup, job.method.support, done - 1)
            store = job.dataset.store
            planes = Planes.of(store.card, store.table)
            support_set_figure.save_figure(job.folder / "neighbours.png", lines, store.images, job.dataset.classes, planes)
        self._clock += time.monotonic() - start
        return row
