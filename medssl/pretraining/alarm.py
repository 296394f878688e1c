"""The collapse alarm: it warns once for each likely cause, and ends a run that does not recover."""

import shlex
from pathlib import Path

from medssl.config import Monitor
from medssl.errors import UserError
from medssl.train import checkpoint
from medssl.train.diagnosis import Cause, CollapseMetrics, diagnose
from medssl.types import Reporter

EVERY_STEPS = 10


class Alarm:
    """Called with new metrics every `EVERY_STEPS` steps.

    The alarm counts steps: steps with a collapse add to the count, healthy steps subtract from the count, down to 0. At `collapse_steps`
    the run ends. So a collapse that comes and goes ends the run, and a short collapse does not. The error names the first cause, as later
    causes follow from the first. `folder`: the run folder, which holds the checkpoints.
    """

    def __init__(self, reporter: Reporter, settings: Monitor, folder: Path) -> None:
        self._reporter, self._settings, self._folder = reporter, settings, folder
        self._warned: set[str] = set()
        self._first_cause: Cause | None = None
        self._alarm_steps = 0

    def __call__(self, done: int, metrics: CollapseMetrics) -> None:
        """Warn, or raise UserError if the run must end. `done`: the number of steps done."""
        cause = diagnose(metrics, self._settings.collapse_std)
        if cause is None:
            self._alarm_steps = max(0, self._alarm_steps - EVERY_STEPS)
            self._first_cause = self._first_cause if self._alarm_steps else None
            return
        self._first_cause = self._first_cause or cause
        self._alarm_steps += EVERY_STEPS
        if self._settings.on_collapse == "stop" and self._alarm_steps >= self._settings.collapse_steps:
            cause = self._first_cause
            raise UserError(f"Stopped at step {done}, after {self._alarm_steps} steps in alarm. {cause.text} {self._how_to_continue()}")
        if cause.name not in self._warned:
            self._warned.add(cause.name)
            self._reporter.warn(f"Alarm at step {done}. {cause.text}")

    def _how_to_continue(self) -> str:
        command = f"medssl pretrain --resume {shlex.quote(str(self._folder))} --set monitor.on_collapse=warn"
        try:
            state, _ = checkpoint.load(self._folder)
        except UserError:
            return "No checkpoint was saved yet. --set monitor.on_collapse=warn lets a run continue."
        return f"The checkpoint in {self._folder} is of step {state['step']}; to continue from this checkpoint: {command}"
