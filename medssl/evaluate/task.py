"""The question that a study asks of a table: which classes, which images may give labels, which are kept for the test."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from medssl.errors import UserError, suggest

FEW, FEW_OF_CLASS = 10, 5  # test patients below which an interval promises too much
_PREFIX = "label:"
_NOTHING_FOUND = re.compile(
    r"(no|non|not|none|without|normal|negative|neg|healthy|benign|absent|absence|control|false|0+(\.0+)?)(?![a-z0-9])|no[ _-]?finding"
)


Kind = Literal["multiclass", "ordinal", "multilabel"]
Counted = Literal["images", "volumes", "whole volumes"]  # volumes are joined of the slices that are stored


@dataclass(frozen=True)
class Task:
    """`kind`: "multiclass", one class for each image; "ordinal", the same with classes that have an order (scored alike, and by a kappa);
    "multilabel", several labels, each present or not. `y`: int64 [n], the class of each row of the table, -1 where it has no label;
    "multilabel" [n, k] of 1, 0, and -1 where it is not known. `pool`: rows whose labels may be used. `test`: rows for the score.

    `copies`: how many labelled training images were left out of the pool because they are a test patient's, or have the pixels of a test
    image. `counted`: what a row is, an image, a volume with all its slices, or a volume that is stored whole.
    """

    column: str
    classes: tuple[str, ...]
    y: np.ndarray
    patients: np.ndarray
    pool: np.ndarray
    test: np.ndarray
    copies: int
    kind: Kind = "multiclass"
    counted: Counted = "images"

    @property
    def multilabel(self) -> bool:
        return self.kind == "multilabel"


def label_columns(table: pd.DataFrame, wanted: str = "") -> list[str]:
    """The names of the label columns: those of `wanted` (with commas between), or the only one there is, or all where each says 0 or 1.

    Raises UserError that lists the columns otherwise.
    """
    known = [str(name).removeprefix(_PREFIX) for name in table.columns if str(name).startswith(_PREFIX)]
    if not known:
        raise UserError("The data has no labels, so there is nothing to fine-tune for. Name data with class folders or a table of labels.")
    if wanted in known:  # a name may hold a comma itself
        return [wanted]
    chosen = [name.strip() for name in wanted.split(",")] if wanted else known
    if not wanted and len(known) > 1 and not all(_is_finding(table, name) for name in known):
        raise UserError(f"The data has {len(known)} label columns: {', '.join(known)}. Choose one with --label NAME.")
    for name in chosen:
        if name not in known:
            raise UserError(f"There is no label column {name!r}. {suggest(name, known)}")
        if len(chosen) > 1 and not _is_finding(table, name):
            raise UserError(f"Label column {name!r} has values other than 0 and 1, so it is no finding. Choose it alone.")
    return chosen


def _is_finding(table: pd.DataFrame, name: str) -> bool:
    return set(table[_PREFIX + name].tolist()) <= {"0", "1", ""}


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


def class_indices(names: Iterable[str], classes: Sequence[str]) -> np.ndarray:
    """int64 [n]: the place of each name among the classes, -1 for one that is none."""
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index.get(name, -1) for name in names])


def define_task(table: pd.DataFrame, columns: Sequence[str], roles: np.ndarray, ordered: bool = False, counted: Counted = "images") -> Task:
    """The task of predicting a label column, or several of 0 and 1; `roles` says "train", "val", "test" or "" (left out) for each row.
    `counted`: what the rows of `table` are.

    Official validation images give no labels: the fraction is one of the training images. Neither do images of test patients and copies of
    test images, even where `data.leaks` allows pretraining to see them. Raises UserError for a single class and for a class that the
    training or the test images lack, naming the count.
    """
    text = table[[_PREFIX + column for column in columns]].to_numpy(dtype=str)
    labelled, named, leaking = (text != "").any(axis=1), ", ".join(columns), _leaking(table, roles)
    copy = labelled & np.isin(roles, ["train", ""]) & leaking
    pool, test = np.flatnonzero(labelled & (roles == "train") & ~leaking), np.flatnonzero(labelled & (roles == "test"))
    if not len(pool) or not len(test):
        raise UserError(
            f"Of {int(labelled.sum())} {counted} with a label in {named!r}, {len(pool)} are for training and {len(test)} for the test. "
            "Both need some: choose another column with --label NAME, or another --set data.test_fraction."
        )
    if missing := next(filter(None, (_missing(*each, counted) for each in zip(columns, text[pool].T, text[test].T, strict=True))), ""):
        raise UserError(missing)
    patients = table["patient"].to_numpy(dtype=str)
    multilabel = len(columns) > 1
    classes = tuple(columns) if multilabel else class_order(text[pool, 0].tolist())
    kind = "multilabel" if multilabel else "ordinal" if ordered and len(classes) > 2 else "multiclass"
    return Task(named, classes, label_numbers(table, named, classes, kind), patients, pool, test, int(copy.sum()), kind, counted)


def without_unanswerable(
    table: pd.DataFrame, columns: Sequence[str], roles: np.ndarray, counted: Counted = "images"
) -> tuple[list[str], list[str]]:
    """Of several findings those that can be learnt and tested, and a sentence for each other one: tables with many findings often have one
    that is too rare. All of them, and no sentence, where none can be learnt: then `define_task` says why."""
    learnt, tested = (roles == "train") & ~_leaking(table, roles), roles == "test"
    said = {column: table[_PREFIX + column].to_numpy(dtype=str) for column in columns}
    missing = {column: _missing(column, text[learnt], text[tested], counted) for column, text in said.items()}
    kept = [column for column, sentence in missing.items() if not sentence]
    return (kept, [sentence for sentence in missing.values() if sentence]) if kept else (list(columns), [])


def _leaking(table: pd.DataFrame, roles: np.ndarray) -> np.ndarray:
    """bool [n]: rows of test patients, and rows with the pixels of a test image."""
    patients, pixels = (table[name].to_numpy(dtype=str) for name in ("patient", "pixel_hash"))
    return np.isin(pixels, pixels[roles == "test"]) | np.isin(patients, patients[roles == "test"])


def label_numbers(table: pd.DataFrame, column: str, classes: Sequence[str], kind: Kind) -> np.ndarray:
    """The labels of all rows of a store's table as numbers, as `Task.y` has them. `column`, `classes` and `kind`: of the task."""
    if kind == "multilabel":
        text = table[[_PREFIX + name for name in classes]].to_numpy(dtype=str)
        return class_indices(text.ravel(), ("0", "1")).reshape(text.shape)
    return class_indices(table[_PREFIX + column].to_numpy(dtype=str), classes)


def few_test_patients(task: Task, units: str = "patients") -> str:
    """A sentence where the test has fewer than 10 patients, or fewer than 5 of a class (with or without a label): then no interval says how
    sure a score is. "" otherwise. `units`: what the patients are called."""
    patients, y = task.patients[task.test], task.y[task.test]
    if task.multilabel:
        of = {f"{no}{name}": y[:, k] == mark for k, name in enumerate(task.classes) for mark, no in ((1, ""), (0, "no "))}
    else:
        of = {name: y == k for k, name in enumerate(task.classes)}
    counts = {name: len(np.unique(patients[rows])) for name, rows in of.items()}
    few = {name: count for name, count in counts.items() if count < FEW_OF_CLASS}
    everyone = len(np.unique(patients))
    if everyone >= FEW and not few:
        return ""
    named = ", ".join(f"{name} {count}" for name, count in list((few or counts).items())[:5])
    return (
        f"The test has only {everyone} {units} ({named}): no interval can say how sure these scores are, and differences may be chance. "
        "Label more of them."
    )


def _missing(column: str, pool: np.ndarray, test: np.ndarray, counted: Counted) -> str:
    """A sentence where a class is not among both the labels of the training and those of the test; "" is no label, and the answer where
    nothing is missing."""
    known = set(pool.tolist()) - {""}
    if len(known) < 2:
        only = next(iter(known), "")
        return f"All {int((pool != '').sum())} training labels in {column!r} are {only!r}. Two classes are needed; is it the right column?"
    for side, other, what in ((pool, test, "test"), (test, pool, "training")):
        for name in sorted(set(side.tolist()) - set(other.tolist()) - {""}):
            others = int((side == name).sum())
            return (
                f"No {what} {counted.removesuffix('s')} has the class {name!r} of {column!r}, which {others} others have. Every class "
                "needs training and test patients: combine it with another class, leave it out, or change --set data.test_fraction."
            )
    return ""
