"""How long a step takes: rounds are repeated until two of them agree, and only then measured."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from acceptance.record import Row
from acceptance.subjects import Setting

_ROUNDS, _TINY_ROUNDS, _MOST_WARM_UPS = 5, 2, 12
_AGREE = 0.05  # the largest difference of two rounds that agree

Work = Callable[[int], object]  # does so many steps


class Timing(NamedTuple):
    """Seconds per step: the median of the rounds (five, or two in a tiny run). `spread`: between the slowest and the fastest round, as a
    share of the median. `warm`: whether two rounds agreed within 5 % before. `steps`: of all rounds. `first`: seconds of the first step."""

    seconds: float
    spread: float
    warm: bool
    steps: int
    first: float

    def row(self, images: int = 0) -> Row:
        """The numbers for a line of results; with the `images` of a step, also images/s."""
        rates = {"images_per_s": images / self.seconds} if images else {}
        more = {"spread": self.spread, "warm": self.warm, "steps": self.steps, "first_step_s": self.first}
        return {**rates, "ms": 1e3 * self.seconds, **more}


def per_step(work: Work, setting: Setting, budget: float) -> Timing:
    """The time of a step of `work`, measured for about `budget` seconds after a warm-up of about as many."""
    last = first = spent(work, 1, setting)
    warm = False
    for _ in range(_MOST_WARM_UPS):
        steps = max(1, int(budget / _MOST_WARM_UPS / last))
        now = spent(work, steps, setting)
        warm, last = abs(now - last) <= _AGREE * now, now
        if warm or setting.tiny:
            break
    number = _TINY_ROUNDS if setting.tiny else _ROUNDS
    steps = max(1, int(budget / number / last))
    rounds = sorted(spent(work, steps, setting) for _ in range(number))
    middle = median(rounds)
    return Timing(middle, (rounds[-1] - rounds[0]) / middle, warm, steps * number, first)


def spent(work: Work, steps: int, setting: Setting) -> float:
    """Seconds per step, the device's work included."""
    setting.wait()
    begin = time.perf_counter()
    work(steps)
    setting.wait()
    return (time.perf_counter() - begin) / steps


def repeated(work: Callable[[], object]) -> Work:
    """`work` as a function of the number of repetitions."""

    def times(steps: int) -> None:
        for _ in range(steps):
            work()

    return times
