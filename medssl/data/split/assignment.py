"""Who is in which set: patients, never images, are drawn, for the test set, for the monitor's hold-out and for the label fractions.

A draw puts the patients of a class in the order of sha256(purpose, seed, patient) and takes the first ones. So it depends neither on the
order of the table nor on a library's random generator, a patient added later moves few others, and a smaller fraction of a draw lies
inside every larger one. A patient with several labels counts for the rarest of them, so that a rare class is not lost. Patients who share
a study or the pixels of an image may be one person under two names: they are drawn together, as one.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from medssl.data.split.leaks import flat_rows
from medssl.errors import UserError, nearest

_EXAMPLES = "Write for instance 10pct, a list such as 1pct,10pct,100pct, 50shot (patients of each class) or all."


@dataclass(frozen=True, slots=True)
class LabelFraction:
    """How many labelled patients of each class to use: `share` of them ("10pct"), or `shots` patients ("50shot")."""

    share: Fraction | None = None
    shots: int | None = None

    def __str__(self) -> str:
        return f"{self.shots}shot" if self.share is None else f"{float(self.share * 100):g}pct"

    def of(self, patients: int) -> int:
        """The number of patients out of `patients`; a share is rounded half up."""
        return self.shots or 0 if self.share is None else math.floor(self.share * patients + Fraction(1, 2))


def parse_labels(text: str) -> list[LabelFraction]:
    """The fractions that --labels names, in its order, each once. Raises UserError with examples for anything else."""
    return list(dict.fromkeys(_parsed(part.strip(), text) for part in text.split(",")))


def _parsed(part: str, text: str) -> LabelFraction:
    if part == "all":
        return LabelFraction(share=Fraction(1))
    if (match := re.fullmatch(r"(\d+(?:\.\d+)?)pct", part, re.ASCII)) and 0 < Fraction(match[1]) <= 100:
        return LabelFraction(share=Fraction(match[1]) / 100)
    if (match := re.fullmatch(r"(\d+)shot", part, re.ASCII)) and int(match[1]) > 0:
        return LabelFraction(shots=int(match[1]))
    raise UserError(f"--labels {text}: {part!r} is no label fraction. {_EXAMPLES}")


def assign(table: pd.DataFrame, label: str, seed: int, test_fraction: float) -> Shaped[np.ndarray, " rows"]:
    """The role of each row of the store's table, "train", "val" or "test".

    Official splits are kept where any row has one, whatever they tear (`leaks.find` tells); rows without count as train. Where there are
    none, or none names a test set, `test_fraction` of the train patients become test, out of the labelled ones only (out of all where none
    has a label), stratified by the column `label:<label>`, or without `label` by all columns of 0 and 1. Patients who share a study or
    equal pixels stay together, those who share one with an official val patient in train.
    """
    roles = table["split"].replace("", "train").to_numpy(str).astype("<U5")
    if "test" not in roles:
        people = groups(table)
        free = (roles == "train") & ~np.isin(people, people[roles == "val"])
        roles[free & np.isin(people, _part(_strata(table, free, label, people), test_fraction, ("test", seed)))] = "test"
    return roles


def holdout(table: pd.DataFrame, roles: Shaped[np.ndarray, " rows"], label: str, seed: int, fraction: float) -> Bool[np.ndarray, " rows"]:
    """The rows that the monitor looks at and pretraining does not: the official val rows, or else `fraction` of the train patients."""
    held = roles == "val"
    if not held.any():
        train, people = roles == "train", groups(table)
        held = train & np.isin(people, _part(_strata(table, train, label, people), fraction, ("holdout", seed)))
    return held


def groups(table: pd.DataFrame) -> Shaped[np.ndarray, " rows"]:
    """For each row the key of its patient, or the smallest of the keys of patients that are linked by a study or by equal pixels."""
    leader: dict[str, str] = {}

    def led(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = name = leader[above]
        return name

    patients, flat = table["patient"].tolist(), flat_rows(table)
    for column in {"study", "pixel_hash"} & set(table.columns):
        for patient, key, nothing in zip(patients, table[column], flat, strict=True):
            if key and not (nothing and column == "pixel_hash"):
                one, other = sorted((led(patient), led(f"~{column} {key}")))  # "~" sorts behind every key of a patient
                leader[other] = one
    return np.array([led(patient) for patient in patients], dtype=str)


def draw(
    patients: Shaped[np.ndarray, " rows"], labels: Shaped[np.ndarray, " rows"], wanted: LabelFraction, draw: int, seed: int
) -> Int[np.ndarray, " drawn"]:
    """The positions, ascending, of the labelled rows of the patients that number `draw` of `wanted` takes from each class.

    Rows with the label "" are never drawn. A class whose share rounds to no patient gives one.
    Raises UserError where that cannot be: fewer than two classes, a fraction smaller than one patient for each class, or more shots than
    the smallest class has patients.
    """
    classes = _classes(patients, labels)
    if len(np.unique(labels[labels != ""])) < 2:
        only = f"They all say {next(iter(classes))!r}." if classes else "There is none."
        raise UserError(f"A classifier needs training labels of two classes. {only} --set data.label=COLUMN names another column.")
    _refuse_too_few(wanted, {name: len(of_class) for name, of_class in classes.items()})
    drawn: list[str] = []
    for of_class in classes.values():
        drawn += ranked(of_class, "draw", seed, draw)[: max(1, wanted.of(len(of_class)))]
    return np.flatnonzero(np.isin(patients, drawn) & (labels != ""))


def _refuse_too_few(wanted: LabelFraction, counts: dict[str, int]) -> None:
    there = f"Labelled training patients: {', '.join(f'{name} {count}' for name, count in counts.items())}."
    if wanted.shots is not None and wanted.shots > min(counts.values()):
        raise UserError(f"--labels {wanted}: a class has fewer patients. {there} The largest that works is {min(counts.values())}shot.")
    total = sum(counts.values())
    if wanted.shots is None and wanted.of(total) < len(counts):
        refuse_fewer(wanted, total, len(counts), f"less than one patient for each class. {there}".rstrip("."))


def refuse_fewer(wanted: LabelFraction, patients: int, needed: int, why: str) -> NoReturn:
    """Raise UserError: `wanted` of `patients` is less than `needed`, with the smallest share that works."""
    least = math.ceil(Fraction(1000 * needed, patients)) / 10
    raise UserError(f"--labels {wanted} is {why}. The smallest that works is {least:g}pct.")


def _part(strata: dict[str, list[str]], fraction: float, purpose: tuple[str, int]) -> list[str]:
    """`fraction` of the patients of each stratum, rounded half up: at least one patient is taken, and at least one is left."""
    part: list[str] = []
    for patients in strata.values():
        number = max(1, math.floor(fraction * len(patients) + 0.5))
        part += ranked(patients, *purpose)[: min(number, len(patients) - 1)]
    return part


def _strata(table: pd.DataFrame, of: Bool[np.ndarray, " rows"], label: str, patients: Shaped[np.ndarray, " rows"]) -> dict[str, list[str]]:
    """The labelled patients of the rows `of` by the rarest of their labels, all of them where none has one. Without `label`, and with
    several columns of 0 and 1, the labels of a patient are the columns where it has a 1; those without any are a stratum of their own."""
    columns = [str(name) for name in table.columns if str(name).startswith("label:")]
    if label and f"label:{label}" not in columns:
        known = [name.removeprefix("label:") for name in columns]
        raise UserError(f"The data has no label column {label!r}. {nearest(label, known) if known else 'It has none at all.'}")
    patients, said = patients[of], {name: table[name].to_numpy(str)[of] for name in columns}
    findings = {name: values for name, values in said.items() if "1" in values and set(values) <= {"0", "1", ""}}
    if label:
        strata = _classes(patients, said[f"label:{label}"])
    elif len(findings) > 1:
        who = {name: patients[values == "1"] for name, values in findings.items()}
        positive = np.concatenate(list(who.values()))
        strata = _classes(positive, np.repeat(list(who), list(map(len, who.values()))))
        labelled = patients[np.any([values != "" for values in findings.values()], axis=0)]
        strata |= {"": sorted(set(labelled.tolist()) - set(positive.tolist()))}
    else:
        strata = {}
    return strata or {"": np.unique(patients).tolist()}


def _classes(patients: Shaped[np.ndarray, " rows"], labels: Shaped[np.ndarray, " rows"]) -> dict[str, list[str]]:
    """The labelled patients by class, both in alphabetical order; each patient stands once, at the rarest of its labels."""
    pairs = sorted({(label, patient) for patient, label in zip(patients.tolist(), labels.tolist(), strict=True) if label})
    sizes = Counter(label for label, _ in pairs)
    rarest: dict[str, str] = {}
    for label, patient in sorted(pairs, key=lambda pair: sizes[pair[0]]):
        rarest.setdefault(patient, label)
    members: dict[str, list[str]] = {label: [] for label in sorted(set(rarest.values()))}
    for patient in sorted(rarest):
        members[rarest[patient]].append(patient)
    return members


def ranked(patients: Iterable[str], *purpose: str | int) -> list[str]:
    """The patients in the order of sha256(purpose, patient)."""
    return sorted(patients, key=lambda patient: hashlib.sha256("\0".join([*map(str, purpose), patient]).encode()).digest())
