"""How long the rest of a pretraining takes, from what this run has measured of itself: steps, evaluations of the encoder, checkpoints."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WARM_UP = 6  # the first steps are slower: memory is laid out, processes start


@dataclass
class _Work:
    """Work that is done after every `every` steps; after the last one if `at_end`. `count` times were measured; they took `seconds`."""

    every: int
    at_end: bool
    seconds: float = 0.0
    count: int = 0

    def left(self, done: int, total: int) -> int:
        """How many times the work will still be done after step `done`."""
        regular = (total - 1) // self.every - done // self.every
        return regular + self.at_end if done < total else 0

    def seconds_left(self, done: int, total: int) -> float:
        """0 as long as nothing was measured."""
        return self.left(done, total) * self.seconds / max(self.count, 1)


class TimeLeft:
    """The estimate of one run of `total` steps that begins, or goes on, after `start` steps. The first steps are not counted, and neither
    is the checkpoint at the end."""

    def __init__(self, start: int, total: int, evaluate_every: int, save_every: int) -> None:
        self._first, self._total = start + WARM_UP, total
        self._work = {"evaluation": _Work(evaluate_every, at_end=True), "checkpoint": _Work(save_every, at_end=False)}
        self._begin, self._apart = 0.0, 0.0

    @contextmanager
    def measure(self, work: str) -> Iterator[None]:
        """Measures an "evaluation" or a "checkpoint", whose time is then no time of the steps."""
        begin = time.monotonic()
        yield
        seconds = time.monotonic() - begin
        self._work[work].seconds += seconds
        self._work[work].count += 1
        self._apart += seconds

    def facts(self, done: int) -> dict[str, float]:
        """For `Reporter.progress` after step `done`, with its evaluation and checkpoint: `seconds_left`, NaN during the first steps;
        `seconds_left_at_least` while evaluations or checkpoints are to come and none was measured yet."""
        now = time.monotonic()
        if done <= self._first:
            self._begin, self._apart = now, 0.0
            return {"seconds_left": math.nan}
        step = (now - self._begin - self._apart) / (done - self._first)
        seconds = (self._total - done) * step + sum(work.seconds_left(done, self._total) for work in self._work.values())
        is_complete = all(work.count or not work.left(done, self._total) for work in self._work.values())
        return {"seconds_left" if is_complete else "seconds_left_at_least": seconds}
