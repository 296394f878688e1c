"""Which rows give their labels: the draws of all fractions, asserted to be what their names say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.data.split import LabelFraction, draw_by_class, draw_multilabel
from medssl.evaluate.task import Task

SMALL, DRAWS_ABOVE = 0.1, 3  # draws of a larger fraction differ less and overlap, so three of them are enough


@dataclass(frozen=True)
class Draw:
    """The store's rows whose labels draw `number` of the amount `wanted` gives. `fraction`: that amount as a share of the pool's patients;
    of shots the share that the first draw has, for the draws of several labels differ a little."""

    wanted: LabelFraction
    fraction: float
    number: int
    rows: np.ndarray


def plan_draws(task: Task, fractions: Sequence[LabelFraction], draws: int, seed: int) -> list[Draw]:
    """All draws, asserted: whole patients out of the pool, as many as the fraction says, a smaller fraction inside every larger one.
    `draws` of each fraction up to a tenth of the patients, at most three of a larger one.

    Raises UserError for a fraction that cannot be drawn.
    """
    patients = task.patients[task.pool]
    everyone = len(np.unique(patients))
    planned: list[Draw] = []
    shares: dict[LabelFraction, float] = {}
    for number in range(draws):
        inner = np.array([], dtype=int)
        for wanted in sorted(set(fractions), key=lambda f: (f.share is None, f.share or f.shots or 0)):
            rows = task.pool[_draw(task, wanted, number, seed)]
            chosen = np.unique(task.patients[rows])
            fraction = shares.setdefault(wanted, float(wanted.share or len(chosen) / everyone))
            if fraction > SMALL and number >= DRAWS_ABOVE:
                continue
            _check(task, wanted, chosen, everyone)
            assert np.isin(task.patients[task.pool], chosen).sum() == len(rows), "a patient was cut in two"
            assert wanted.share is None or np.isin(inner, rows).all(), "a smaller fraction lies outside a larger one"
            inner = rows if wanted.share else inner
            planned.append(Draw(wanted, fraction, number, rows))
    return planned


def _draw(task: Task, wanted: LabelFraction, number: int, seed: int) -> np.ndarray:
    patients, y = task.patients[task.pool], task.y[task.pool]
    if task.multilabel:
        return draw_multilabel(patients, y, task.classes, wanted, number, seed)
    return draw_by_class(patients, np.array(task.classes)[y], wanted, number, seed)


def _check(task: Task, wanted: LabelFraction, chosen: np.ndarray, everyone: int) -> None:
    """A share is a share of all patients, shots are patients of each class; a patient with several labels may stand for some of them."""
    classes, shots = len(task.classes), wanted.shots or 0
    if task.multilabel:
        low, high = (shots, 2 * classes * shots) if shots else (wanted.of(everyone), wanted.of(everyone))
    else:
        target = float(everyone * wanted.share) if wanted.share else classes * shots
        low, high = target - classes, target + classes
    expected = f"{(low + high) / 2:.1f}"
    assert low <= len(chosen) <= high, f"{wanted}: {len(chosen)} patients instead of {expected}"


def headline_fraction(fractions: Sequence[str]) -> str:
    """The fraction that the headline and the figures speak of: a tenth of the labels, or else the first, smallest one of `fractions`."""
    return "10pct" if "10pct" in fractions else fractions[0]
