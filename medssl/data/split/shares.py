"""How many labelled patients of each class a split tests, and whether that is what was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped


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
