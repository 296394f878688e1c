"""Who is in which set: patients, never images, are drawn, for the test set, for the monitor's hold-out and for the label fractions.

A draw puts the patients of a class in the order of sha256(purpose, seed, patient) and takes the first ones. So it depends neither on the
order of the table nor on a library's random generator, a patient added later moves few others, and a smaller fraction of a draw lies
inside every larger one. A patient with several labels counts for the rarest of them, so that a rare class is not lost. Patients who share
a study or the pixels of an image may be one person under two names: they are drawn together, as one.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from medssl.data.split.leaks import flat_rows
from medssl.errors import UserError, suggest


def assign_roles(table: pd.DataFrame, label: str, seed: int, test_fraction: float) -> Shaped[np.ndarray, " rows"]:
    """The role of each row of the store's table, "train", "val" or "test".

    Official splits are kept where any row has one, whatever they tear (`leaks.find` tells); rows without count as train. Where there are
    none, or none names a test set, `test_fraction` of the train patients become test, out of the labelled ones only (out of all where none
    has a label), stratified by the column `label:<label>`, or without `label` by all columns of 0 and 1. Patients who share a study or
    equal pixels stay together, those who share one with an official val patient in train.
    """
    roles = table["split"].replace("", "train").to_numpy(str).astype("<U5")
    if "test" not in roles:
        people = group_patients(table)
        free = (roles == "train") & ~np.isin(people, people[roles == "val"])
        roles[free & np.isin(people, _draw_part(_stratify(table, free, label, people), test_fraction, ("test", seed)))] = "test"
    return roles


def choose_holdout(
    table: pd.DataFrame, roles: Shaped[np.ndarray, " rows"], label: str, seed: int, fraction: float
) -> Bool[np.ndarray, " rows"]:
    """The rows that the monitor looks at and pretraining does not: the official val rows, or else `fraction` of the train patients."""
    held = roles == "val"
    if not held.any():
        train, people = roles == "train", group_patients(table)
        held = train & np.isin(people, _draw_part(_stratify(table, train, label, people), fraction, ("holdout", seed)))
    return held


def group_patients(table: pd.DataFrame) -> Shaped[np.ndarray, " rows"]:
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


def _draw_part(strata: dict[str, list[str]], fraction: float, purpose: tuple[str, int]) -> list[str]:
    """`fraction` of the patients of each stratum, rounded half up: at least one patient is taken, and at least one is left."""
    part: list[str] = []
    for patients in strata.values():
        number = max(1, math.floor(fraction * len(patients) + 0.5))
        part += rank_patients(patients, *purpose)[: min(number, len(patients) - 1)]
    return part


def _stratify(
    table: pd.DataFrame, of: Bool[np.ndarray, " rows"], label: str, patients: Shaped[np.ndarray, " rows"]
) -> dict[str, list[str]]:
    """The labelled patients of the rows `of` by the rarest of their labels, all of them where none has one. Without `label`, and with
    several columns of 0 and 1, the labels of a patient are the columns where it has a 1; those without any are a stratum of their own."""
    columns = [str(name) for name in table.columns if str(name).startswith("label:")]
    if label and f"label:{label}" not in columns:
        known = [name.removeprefix("label:") for name in columns]
        raise UserError(f"The data has no label column {label!r}. {suggest(label, known) if known else 'It has none at all.'}")
    patients, said = patients[of], {name: table[name].to_numpy(str)[of] for name in columns}
    findings = {name: values for name, values in said.items() if "1" in values and set(values) <= {"0", "1", ""}}
    if label:
        strata = patients_by_class(patients, said[f"label:{label}"])
    elif len(findings) > 1:
        who = {name: patients[values == "1"] for name, values in findings.items()}
        positive = np.concatenate(list(who.values()))
        strata = patients_by_class(positive, np.repeat(list(who), list(map(len, who.values()))))
        labelled = patients[np.any([values != "" for values in findings.values()], axis=0)]
        strata |= {"": sorted(set(labelled.tolist()) - set(positive.tolist()))}
    else:
        strata = {}
    return strata or {"": np.unique(patients).tolist()}


def patients_by_class(patients: Shaped[np.ndarray, " rows"], labels: Shaped[np.ndarray, " rows"]) -> dict[str, list[str]]:
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


def rank_patients(patients: Iterable[str], *purpose: str | int) -> list[str]:
    """The patients in the order of sha256(purpose, patient)."""
    return sorted(patients, key=lambda patient: hashlib.sha256("\0".join([*map(str, purpose), patient]).encode()).digest())
