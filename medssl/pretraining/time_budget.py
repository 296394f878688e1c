"""`--set train.minutes=30`: how many steps a budget of time holds on this machine."""

import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from medssl.config import Config
from medssl.pretraining.fit_to_data import fit_to_data, training_rows
from medssl.pretraining.time_left import WARM_UP
from medssl.pretraining.trainer import Training, build_training
from medssl.train.bad_steps import Applied
from medssl.train.loop import fit
from medssl.types import Reporter, Step

_TIMED = 10


def fit_to_minutes(reporter: Reporter, config: Config, job: Training) -> Config:
    """The configuration with the number of steps that its `train.minutes` hold, by the median time of ten steps of a copy of the job. With
    several processes each would measure another speed: `fit_to_images` refuses that."""
    minutes, images = config.train.minutes, len(training_rows(config, job.dataset))
    assert minutes is not None
    with TemporaryDirectory() as scratch:
        seconds = _seconds_per_step(build_training(Path(scratch), fit_to_data(config, images, WARM_UP + _TIMED), job.dataset, job.team))
    steps = max(1, int(60 * minutes / seconds))
    reporter.say(f"budget    {minutes:g} minutes are {steps} steps of {seconds:.3g} s")
    return fit_to_data(config, images, steps)


def _seconds_per_step(trial: Training) -> float:
    ends: list[float] = []

    def note_time(_done: int, _step: Step, _lr: float, applied: Applied) -> bool:
        bool(applied)  # waits for a GPU until it has done the step
        ends.append(time.monotonic())
        return False

    fit(trial.method, trial.feed, trial.optimiser, trial.plan, on_step=note_time)
    return median(later - earlier for earlier, later in pairwise(ends[WARM_UP - 1 :]))
