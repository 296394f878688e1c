"""The collapse alarm: a warning for each likely cause, and the end of a run that does not recover."""

from pathlib import Path

from medssl.config import Monitor
from medssl.errors import UserError
from medssl.train import checkpoint
from medssl.train.diagnosis import Cause, CollapseMetrics, diagnose
from medssl.types import Reporter

EVERY_STEPS = 10


class Alarm:
    """Called with new metrics every `EVERY_STEPS` steps. Steps in alarm count up to `collapse_steps`, healthy ones down to 0, so that a
    collapse that flickers ends the run and a passing one does not. The first cause is the one the run ends with: others follow from it.
    `folder`: of the run, where its checkpoints are."""

    def __init__(self, reporter: Reporter, settings: Monitor, folder: Path) -> None:
        self._reporter, self._settings, self._folder = reporter, settings, folder
        self._told: set[str] = set()
        self._first: Cause | None = None
        self._steps = 0

    def __call__(self, done: int, metrics: CollapseMetrics) -> None:
        """Raises UserError where the run is to end."""
        cause = diagnose(metrics, self._settings.collapse_std)
        if cause is None:
            self._steps = max(0, self._steps - EVERY_STEPS)
            self._first = self._first if self._steps else None
            return
        self._first = self._first or cause
        self._steps += EVERY_STEPS
        if self._settings.on_collapse == "stop" and self._steps >= self._settings.collapse_steps:
            raise UserError(f"Stopped at step {done}, after {self._steps} steps in alarm. {self._first.text} {self._way_back()}")
        if cause.name not in self._told:
            self._told.add(cause.name)
            self._reporter.warn(f"Alarm at step {done}. {cause.text}")

    def _way_back(self) -> str:
        on = f"medssl pretrain --resume {self._folder} --set monitor.on_collapse=warn"
        try:
            state, _ = checkpoint.load(self._folder)
        except UserError:
            return "No checkpoint was saved yet. --set monitor.on_collapse=warn lets a run go on."
        return f"The checkpoint in {self._folder} is of step {state['step']}; to go on from it all the same: {on}"
