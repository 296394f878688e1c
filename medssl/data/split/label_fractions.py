"""Label fractions: fine-tuning uses the labels of a share of the patients, or of a number of patients of each class. Both are drawn
several times.

The patients are in the order of `assignment.rank_patients`, so a smaller fraction is a part of every larger one of the same draw.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

import numpy as np
from jaxtyping import Int, Shaped

from medssl.data.split.assignment import patients_by_class, rank_patients
from medssl.errors import UserError

_EXAMPLES = "Write for instance 10pct (also 10% or 0.1), a list such as 1pct,10pct,100pct, 50shot (patients of each class) or all."


@dataclass(frozen=True, slots=True)
class LabelFraction:
    """How many labelled patients of each class are used: the part `share` of them ("10pct"), or `shots` patients ("50shot")."""

    share: Fraction | None = None
    shots: int | None = None

    def __str__(self) -> str:
        return f"{self.shots}shot" if self.share is None else f"{float(self.share * 100):g}pct"

    def of(self, patients: int) -> int:
        """The number of patients out of `patients`; a share is rounded half up."""
        return self.shots or 0 if self.share is None else math.floor(self.share * patients + Fraction(1, 2))


def parse_labels(text: str) -> list[LabelFraction]:
    """The fractions that the option --labels names, in its order, each once. Raises UserError, with examples, for other text.

    >>> [str(fraction) for fraction in parse_labels("10%, 0.1, 1.0, 50shot")]
    ['10pct', '100pct', '50shot']
    """
    return list(dict.fromkeys(_parse_part(part.strip(), text) for part in text.split(",")))


def canonical_labels(text: str) -> str:
    """The same fractions in one spelling: "1pct,100pct" for "1%, all". Raises UserError as `parse_labels`."""
    return ",".join(map(str, parse_labels(text)))


def _parse_part(part: str, text: str) -> LabelFraction:
    if part == "all":
        return LabelFraction(share=Fraction(1))
    if (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:pct|%)", part, re.ASCII)) and 0 < Fraction(match[1]) <= 100:
        return LabelFraction(share=Fraction(match[1]) / 100)
    if (match := re.fullmatch(r"\d*\.\d+", part, re.ASCII)) and 0 < Fraction(match[0]) <= 1:
        return LabelFraction(share=Fraction(match[0]))
    if (match := re.fullmatch(r"(\d+)shot", part, re.ASCII)) and int(match[1]) > 0:
        return LabelFraction(shots=int(match[1]))
    raise UserError(f"--labels {text}: {part!r} is no label fraction. {_EXAMPLES}")


def draw_by_class(
    patients: Shaped[np.ndarray, " rows"], labels: Shaped[np.ndarray, " rows"], wanted: LabelFraction, draw: int, seed: int
) -> Int[np.ndarray, " drawn"]:
    """The positions, ascending, of the rows that draw number `draw` of the fraction `wanted` selects: the labelled rows of its patients.

    Rows with the label "" are never drawn. A class of whose patients the share is less than half a patient gives one patient. Raises
    UserError for fewer than two classes, a fraction of less than one patient for each class, or more shots than the smallest class has
    patients.
    """
    classes = patients_by_class(patients, labels)
    if len(np.unique(labels[labels != ""])) < 2:
        only = f"They all say {next(iter(classes))!r}." if classes else "There is none."
        raise UserError(f"A classifier needs training labels of two classes. {only} --label COLUMN names another column.")
    _check_sizes(wanted, {name: len(of_class) for name, of_class in classes.items()})
    drawn: list[str] = []
    for of_class in classes.values():
        drawn += rank_patients(of_class, "draw", seed, draw)[: max(1, wanted.of(len(of_class)))]
    return np.flatnonzero(np.isin(patients, drawn) & (labels != ""))


def _check_sizes(wanted: LabelFraction, counts: dict[str, int]) -> None:
    there = f"Labelled training patients: {', '.join(f'{name} {count}' for name, count in counts.items())}."
    if wanted.shots is not None and wanted.shots > min(counts.values()):
        raise UserError(f"--labels {wanted}: a class has fewer patients. {there} The largest that works is {min(counts.values())}shot.")
    total = sum(counts.values())
    if wanted.shots is None and wanted.of(total) < len(counts):
        raise_too_small(wanted, total, len(counts), f"less than one patient for each class. {there}".rstrip("."))


def raise_too_small(wanted: LabelFraction, patients: int, needed: int, why: str) -> NoReturn:
    """Raise UserError: `wanted` of `patients` is less than `needed`, with the smallest share that works."""
    least = math.ceil(Fraction(1000 * needed, patients)) / 10
    raise UserError(f"--labels {wanted} is {why}. The smallest that works is {least:g}pct.")
