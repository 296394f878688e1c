"""The question that a study asks of a table: which classes, which images may give labels, which are kept for the test."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medssl.errors import UserError, nearest

_PREFIX = "label:"
_NOTHING_FOUND = re.compile(
    r"(no|non|not|none|without|normal|negative|neg|healthy|benign|absent|absence|control|false|0+(\.0+)?)(?![a-z0-9])|no[ _-]?finding"
)


@dataclass(frozen=True)
class Task:
    """`y`: class index per row of the table, -1 where it has no label. `pool`: rows whose labels may be used. `test`: rows for the score.

    `copies`: how many labelled training images were left out of the pool because they are a test patient's, or have the pixels of a test
    image.
    """

    column: str
    classes: tuple[str, ...]
    y: np.ndarray
    patients: np.ndarray
    pool: np.ndarray
    test: np.ndarray
    copies: int


def label_column(table: pd.DataFrame, wanted: str = "") -> str:
    """The name of the label column: `wanted`, or the only one there is. Raises UserError that lists the columns otherwise."""
    known = [str(name).removeprefix(_PREFIX) for name in table.columns if str(name).startswith(_PREFIX)]
    if not known:
        raise UserError("The data has no labels, so there is nothing to fine-tune for. Name data with class folders or a table of labels.")
    if not wanted and len(known) > 1:
        raise UserError(f"The data has {len(known)} label columns: {', '.join(known)}. Choose one with --set data.label=NAME.")
    if wanted and wanted not in known:
        raise UserError(f"There is no label column {wanted!r}. {nearest(wanted, known)}")
    return wanted or known[0]


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct names in the order of their class indices: sorted, numbers by value.

    Of two classes the last is the positive one: where exactly one of the names says that nothing was found (normal, negative, healthy,
    benign, control, absent, false, 0, or a name that begins with the word no, not, non or without), it comes first.

    >>> class_order(["Pneumonia", "No_findings"])
    ('No_findings', 'Pneumonia')
    """
    ordered = sorted(set(names))
    if all(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in ordered):
        ordered.sort(key=float)
    nothing = [bool(_NOTHING_FOUND.match(name.strip().lower())) for name in ordered]
    return tuple(reversed(ordered)) if nothing == [False, True] else tuple(ordered)


def numbered(names: Iterable[str], classes: Sequence[str]) -> np.ndarray:
    """int64 [n]: the place of each name among the classes, -1 for one that is none."""
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index.get(name, -1) for name in names])


def ask(table: pd.DataFrame, column: str, roles: np.ndarray) -> Task:
    """The task of predicting a label column; `roles` says "train", "val", "test" or "" (left out) for each row.

    Official validation images give no labels: the fraction is one of the training images. Neither do images of test patients and copies of
    test images, even where `data.leaks` allows pretraining to see them. Raises UserError for a single class and for a class that the
    training or the test images lack, naming the count.
    """
    text = table[_PREFIX + column].to_numpy(dtype=str)
    patients, pixels = (table[name].to_numpy(dtype=str) for name in ("patient", "pixel_hash"))
    labelled, tested = text != "", roles == "test"
    leaking = np.isin(pixels, pixels[tested]) | np.isin(patients, patients[tested])
    copy = labelled & np.isin(roles, ["train", ""]) & leaking
    pool, test = np.flatnonzero(labelled & (roles == "train") & ~leaking), np.flatnonzero(labelled & tested)
    if not len(pool) or not len(test):
        raise UserError(
            f"Of {int(labelled.sum())} images with a label in {column!r}, {len(pool)} are for training and {len(test)} for the test. "
            "Both need some: choose another column with --set data.label=NAME, or another --set data.test_fraction."
        )
    classes = class_order(text[pool].tolist())
    if len(classes) == 1:
        only = classes[0]
        raise UserError(f"All {len(pool)} training labels in {column!r} are {only!r}. Two classes are needed; is it the right column?")
    for rows, others, what in ((pool, test, "test"), (test, pool, "training")):
        for name in sorted(set(text[rows].tolist()) - set(text[others].tolist())):
            raise UserError(
                f"No {what} image has the class {name!r}, which {int((text[rows] == name).sum())} others have. Every class needs patients "
                "on both sides: join it with another class, leave it out, or change --set data.test_fraction."
            )
    return Task(column, classes, numbered(text, classes), patients, pool, test, int(copy.sum()))
