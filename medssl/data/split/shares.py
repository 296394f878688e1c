"""How many labelled patients of each class a split tests, and whether that is what was asked for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from medssl.data.split.assignment import group_patients

_FEWEST = 10  # patients, of whom one with many images is worth a word


@dataclass(frozen=True, slots=True)
class ClassShare:
    """A value of a label column: the number of patients who have it, and how many of these are in the test, and in training."""

    column: str
    value: str
    patients: int
    tested: int
    trained: int


def class_shares(table: pd.DataFrame, columns: Sequence[str], roles: Shaped[np.ndarray, " rows"]) -> list[ClassShare]:
    """The share of each value of the label columns; "" is no label."""
    shares, patients = [], table["patient"].to_numpy(str)
    for column in columns:
        labels = table[f"label:{column}"].to_numpy(str)
        for value in sorted(set(labels.tolist()) - {""}):
            of_value = labels == value
            counts = [len(np.unique(patients[rows])) for rows in (of_value, of_value & (roles == "test"), of_value & (roles == "train"))]
            shares.append(ClassShare(column, value, *counts))
    return shares


def serves(
    table: pd.DataFrame,
    columns: Sequence[str],
    roles: Shaped[np.ndarray, " rows"],
    test_fraction: float,
    seen: Bool[np.ndarray, " rows"],
) -> bool:
    """Whether the test of `roles` can answer the question of the label columns `columns` for an encoder that has `seen` these rows: none of
    them is tested, each class of two or more patients is in training and test, and at least half of the labelled patients that
    `test_fraction` asks for are tested."""
    if (seen & (roles == "test")).any():
        return False
    labelled = (table[[f"label:{column}" for column in columns]].to_numpy(str) != "").any(axis=1)
    patients = table["patient"].to_numpy(str)
    all_labelled, tested = (len(np.unique(patients[of])) for of in (labelled, labelled & (roles == "test")))
    both = all(share.tested and share.trained for share in class_shares(table, columns, roles) if share.patients > 1)
    return both and tested >= test_fraction * all_labelled / 2


def describe_test(
    table: pd.DataFrame, columns: Sequence[str], roles: Shaped[np.ndarray, " rows"], test_fraction: float, units: str = "patients"
) -> list[str]:
    """Sentences where a test that was drawn here is not what was asked for: its share of the patients (of the labelled ones, where a label
    column of `columns` has labels) or of the images, or a class that is not on both sides. `units`: what the patients are called."""
    tested, patients = roles == "test", table["patient"].to_numpy(str)
    if not test_fraction or not tested.any() or "test" in table["split"].to_numpy(str):
        return []
    shares = class_shares(table, columns, roles)
    lacking = [share for share in shares if not (share.tested and share.trained)]
    sentences = [
        f"The class {share.value!r} of {share.column!r} has {share.patients} {units}, {share.tested} of them in the test and "
        f"{share.trained} in training: it cannot be learnt and tested."
        for share in lacking[:5]
    ]
    labelled = (table[[f"label:{column}" for column in columns]].to_numpy(str) != "").any(axis=1) if shares else np.ones(len(table), bool)
    everyone, drawn = (len(np.unique(patients[of])) for of in (labelled, labelled & tested))
    why, of_images = _largest(table, patients, test_fraction, units), float(tested.mean())
    few_or_many = abs(drawn - test_fraction * everyone) > max(1 + len(shares) / 2, test_fraction * everyone / 4)
    if few_or_many or (why and abs(of_images - test_fraction) > 0.05):
        sentences.append(
            f"The test has {drawn} of {everyone} {'labelled ' if shares else ''}{units} and {of_images:.0%} of the images, where "
            f"data.test_fraction asks for {test_fraction:.0%}.{why}"
        )
    return sentences


def _largest(table: pd.DataFrame, patients: Shaped[np.ndarray, " rows"], test_fraction: float, units: str) -> str:
    """What may keep a test from its share: patients who stay together, or one patient with many of the images; "" where there is none."""
    groups = group_patients(table)
    together = Counter(dict(set(zip(patients.tolist(), groups.tolist(), strict=True))).values()).most_common(1)[0][1]
    everyone = len(np.unique(patients))
    if together > 2 and together > test_fraction * everyone / 2:
        return (
            f" {together} of {everyone} {units} are linked by equal pictures or a study, as by one placeholder picture, and stay together. "
            "Take such pictures out of the data; or --set data.split_seed=N draws others."
        )
    most = Counter(patients.tolist()).most_common(1)[0][1] / len(patients)
    if everyone >= _FEWEST and most > test_fraction / 2:
        return f" One of the {everyone} {units} has {most:.0%} of the images. --set data.split_seed=N draws others."
    return ""
