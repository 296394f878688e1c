"""Drawing patients for the test set, for the monitor's hold-out and for label fractions. All images of a patient are drawn together.

A draw sorts the patients of a class by sha256(purpose, seed, patient) and takes the first ones. So the draw does not depend on the order of
the table or on a library's random generator, a new patient changes it little, and a smaller fraction is a part of every larger one. A
patient with several labels counts for the rarest of them: no rare class is lost. Patients who share a study or equal pixels may be one
person under two names: they form a group, which is drawn together.

A test for an encoder is drawn in the same order, among the patients that the encoder has not seen: where all patients of the usual test are
unseen, it is the usual test.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from medssl.data.split.leaks import flat_rows
from medssl.errors import UserError, suggest


def assign_roles(
    table: pd.DataFrame, label: str, seed: int, test_fraction: float, seen: Bool[np.ndarray, " rows"] | None = None
) -> Shaped[np.ndarray, " rows"]:
    """The role of each row of the store's table: "train", "val" or "test".

    The splits that come with the data are kept, even if they separate the images of a patient (`leaks.find_leaks` reports that). Rows
    without a split count as train. Where no row is test, `test_fraction` of the labelled train patients become test (of all train patients
    where none has a label), stratified by the column `label:<label>`, or for label "" by all columns of 0 and 1. Patients who share a study
    or equal pixels get one role; those who share one with a val patient stay in train. With a `test_fraction` of 0 nobody becomes test.

    `seen`: rows that an encoder has seen. Where the test is drawn here, it is as large as without them, or as large as can be, but nobody
    linked to such a row is drawn. Seen rows of a drawn patient, which can only be flat images, get the role "".
    """
    roles = table["split"].replace("", "train").to_numpy(str).astype("<U5")
    if "test" not in roles and test_fraction:
        groups = group_patients(table)
        candidates = (roles == "train") & ~np.isin(groups, groups[roles == "val"])
        barred = set() if seen is None else set(groups[seen & ~flat_rows(table)].tolist())
        drawn = _draw_part(_stratify(table, candidates, label, groups), test_fraction, ("test", seed), barred)
        roles[candidates & np.isin(groups, drawn)] = "test"
        if seen is not None:
            roles[(roles == "test") & seen] = ""
    return roles


def choose_holdout(
    table: pd.DataFrame, roles: Shaped[np.ndarray, " rows"], label: str, seed: int, fraction: float
) -> Bool[np.ndarray, " rows"]:
    """The rows for the monitor, which pretraining does not use: the val rows, or, if there are none, `fraction` of the train patients,
    which may be 0."""
    holdout = roles == "val"
    if not holdout.any() and fraction:
        train, groups = roles == "train", group_patients(table)
        holdout = train & np.isin(groups, _draw_part(_stratify(table, train, label, groups), fraction, ("holdout", seed)))
    return holdout


def group_patients(table: pd.DataFrame) -> Shaped[np.ndarray, " rows"]:
    """For each row the key of its group: the smallest key of all patients that are linked, directly or through others, by a study or by
    equal pixels. A patient without links is a group of its own."""
    parents: dict[str, str] = {}

    def representative(name: str) -> str:
        while (parent := parents.setdefault(name, name)) != name:
            parents[name] = name = parents[parent]
        return name

    patients, flat = table["patient"].tolist(), flat_rows(table)
    for column in {"study", "pixel_hash"} & set(table.columns):
        for patient, key, is_flat in zip(patients, table[column], flat, strict=True):
            if key and not (is_flat and column == "pixel_hash"):
                # "~" sorts behind every patient's key: the smallest name of a group is that of a patient
                first, second = sorted((representative(patient), representative(f"~{column} {key}")))
                parents[second] = first
    return np.array([representative(patient) for patient in patients], dtype=str)


def _draw_part(strata: dict[str, list[str]], fraction: float, purpose: tuple[str, int], barred: Collection[str] = frozenset()) -> list[str]:
    """`fraction` of the patients of each stratum, rounded half up: at least one patient, but never all patients of a stratum, and none who
    is `barred`."""
    part: list[str] = []
    for patients in strata.values():
        number = max(1, math.floor(fraction * len(patients) + 0.5))
        free = [patient for patient in patients if patient not in barred]
        part += rank_patients(free, *purpose)[: min(number, len(patients) - 1)]
    return part


def _stratify(
    table: pd.DataFrame, of: Bool[np.ndarray, " rows"], label: str, patients: Shaped[np.ndarray, " rows"]
) -> dict[str, list[str]]:
    """{stratum: the labelled patients of the rows `of` whose rarest label it is}; one stratum of all patients where none has a label.

    The labels are those of the column `label`. For label "" and several columns of 0 and 1, a patient's labels are the columns in which it
    has a 1; labelled patients without any 1 are a stratum of their own.
    """
    columns = [str(name) for name in table.columns if str(name).startswith("label:")]
    if label and f"label:{label}" not in columns:
        names = [name.removeprefix("label:") for name in columns]
        raise UserError(f"The data has no label column {label!r}. {suggest(label, names) if names else 'It has none at all.'}")
    patients, labels = patients[of], {name: table[name].to_numpy(str)[of] for name in columns}
    findings = {name: values for name, values in labels.items() if "1" in values and set(values) <= {"0", "1", ""}}
    if label:
        strata = patients_by_class(patients, labels[f"label:{label}"])
    elif len(findings) > 1:
        positive_patients = {name: patients[values == "1"] for name, values in findings.items()}
        positive = np.concatenate(list(positive_patients.values()))
        strata = patients_by_class(positive, np.repeat(list(positive_patients), list(map(len, positive_patients.values()))))
        labelled = patients[np.any([values != "" for values in findings.values()], axis=0)]
        strata |= {"": sorted(set(labelled.tolist()) - set(positive.tolist()))}
    else:
        strata = {}
    return strata or {"": np.unique(patients).tolist()}


def patients_by_class(patients: Shaped[np.ndarray, " rows"], labels: Shaped[np.ndarray, " rows"]) -> dict[str, list[str]]:
    """{class: its labelled patients}, both in alphabetical order. Each patient is listed once, under the rarest of its labels."""
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
