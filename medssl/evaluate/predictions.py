"""predictions.parquet of a finished fine-tuning, read: every probability of every classifier, with the key and the patient of its image."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import UserError
from medssl.evaluate.recomputed import Group, find_contradiction
from medssl.evaluate.schema import PREDICTIONS, ResultsDocument, TaskFacts
from medssl.evaluate.stats.metrics import Prob

_GROUP_COLUMNS = ["labels", "mode", "init"]


@dataclass(frozen=True)
class Predictions:
    """Those of one run, images in the order of their `keys`. `test`: a hash of the test images (keys, patients, truth), equal for runs on
    the same test images. `y`: the truth, as Task.y. `draws`: of each group the probabilities [images, classes] of each draw."""

    test: str
    keys: np.ndarray
    patients: np.ndarray
    y: np.ndarray
    draws: Mapping[Group, Sequence[Prob]]


def read_predictions(run: Path, document: ResultsDocument) -> Predictions | None:
    """The predictions that belong to a run's results.json; None where the run has no such file.

    Raises UserError for a file that is damaged, or that gives other scores or intervals than the document says (`recomputed`).
    """
    path, task = run / PREDICTIONS, document.task
    if not path.is_file():
        return None
    truth = [f"true_{c.name}" for c in task.classes] if task.kind == "multilabel" else ["y_true"]
    tested = ["key", "patient", *truth]
    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes())).sort_values("key", kind="stable")
        groups: dict[Any, list[pd.DataFrame]] = {
            group: [cell for _, cell in cells.groupby("draw")] for group, cells in table.groupby(_GROUP_COLUMNS)
        }
        first = next(iter(groups.values()))[0].loc[:, tested]
        y = _truth(first.loc[:, truth], task)
        found = {group: [_probabilities(cell, first, task) for cell in cells] for group, cells in groups.items()}
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}). Fine-tune again, or leave that run out.") from None
    if wrong := find_contradiction(document, y, first["patient"].to_numpy(), found):
        raise UserError(
            f"{path} gives other scores than the results.json next to it ({wrong}): they do not belong together, or one was changed. "
            "Copy both again."
        )
    test = hashlib.sha256("\n".join("\t".join(map(str, row)) for row in first.to_numpy()).encode()).hexdigest()
    return Predictions(test, first["key"].to_numpy(), first["patient"].to_numpy(), y, found)


def _truth(columns: pd.DataFrame, task: TaskFacts) -> np.ndarray:
    if task.kind == "multilabel":
        return columns.to_numpy(np.int64)
    index = {c.name: i for i, c in enumerate(task.classes)}
    return np.array([index[name] for name in columns["y_true"]])


def _probabilities(cell: pd.DataFrame, first: pd.DataFrame, task: TaskFacts) -> Prob:
    prob = cell[[f"prob_{c.name}" for c in task.classes]].to_numpy(np.float64)
    if not np.array_equal(cell[first.columns], first) or cell["key"].duplicated().any() or not np.isfinite(prob).all():
        raise ValueError
    return prob
