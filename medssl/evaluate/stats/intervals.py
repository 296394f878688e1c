"""The ends of intervals in results.json: null where there is no interval, as the test has one or two patients, or as no resample of its
patients has images of every class."""

import math
from typing import Protocol

from medssl.evaluate.stats.bootstrap import interval
from medssl.evaluate.stats.metrics import Scores


class WithInterval(Protocol):
    """A score or a difference with its interval."""

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def ends(of: WithInterval) -> tuple[float, float] | None:
    """Both ends, or None."""
    return None if of.low is None or of.high is None else (of.low, of.high)


def bracketed(of: WithInterval) -> str:
    """The interval as the console shows it behind a score, " [0.701, 0.812]"; "" where there is none."""
    found = ends(of)
    return f" [{found[0]:.3f}, {found[1]:.3f}]" if found else ""


def interval_or_none(values: Scores, level: float) -> dict[str, float | None]:
    """The interval of the resamples' values as {"low": ..., "high": ...}; None twice where none of them is a number."""
    return {name: end if math.isfinite(end) else None for name, end in zip(("low", "high"), interval(values, level), strict=True)}
