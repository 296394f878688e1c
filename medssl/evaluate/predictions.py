"""predictions.parquet of a finished fine-tuning, read: every probability of every classifier, with the key and the patient of its image."""

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import UserError
from medssl.evaluate.schema import PREDICTIONS, PairedRow, ResultsDocument, Score, SummaryRow, TaskFacts
from medssl.evaluate.stats import ends
from medssl.evaluate.stats.metrics import METRICS, Prob, auprc, auroc, score

Group = tuple[str, str, str]  # the fraction's name, mode, init

_GROUP_COLUMNS = ["labels", "mode", "init"]
_ROUNDING = 1e-6


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

    Raises UserError for a file that is damaged, or that gives other scores than the document says.
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
    if wrong := _contradiction(document, y, found):
        raise UserError(
            f"{path} gives other scores than the results.json next to it ({wrong}): they do not belong together, or one was changed. "
            "Copy both again."
        )
    test = hashlib.sha256("\n".join("\t".join(map(str, row)) for row in first.to_numpy()).encode()).hexdigest()
    return Predictions(test, first["key"].to_numpy(), first["patient"].to_numpy(), y, found)


def _contradiction(document: ResultsDocument, y: np.ndarray, found: Mapping[Group, Sequence[Prob]]) -> str:
    """The first number of the results that the predictions contradict; "" where there is none. Intervals must have their ends in order."""
    means, classes = {}, document.task.classes
    tested = (y == 1).sum(axis=0) if y.ndim > 1 else np.bincount(y, minlength=len(classes))
    if tested.tolist() != [one.test for one in classes]:
        return "the number of tested images of a class"
    for row in document.summary:
        group = row.labels, row.mode, row.init
        stated = {name: row.score(name) for name in ("auroc", *(name for name in METRICS if name in row.__pydantic_extra__))}
        metrics = {name: METRICS[name] for name in stated}
        scores = [score(y, prob, metrics) for prob in found.get(group, ())]
        for name, value in stated.items():
            means[group, name] = float(np.mean([one[name] for one in scores])) if scores else math.nan
            if not (abs(means[group, name] - value.mean) < _ROUNDING and _in_order(value)):
                return f"{name} of {row.init} at {row.labels}"
        if wrong := _contradicted_class(row, document, y, found.get(group, ())):
            return f"{wrong} of {row.init} at {row.labels}"
    for row in document.paired:
        ours = [group for group, _ in means if group[:2] == (row.labels, row.mode) and group[2] == document.summary[0].init]
        theirs = [group for group, _ in means if (group[0], group[2]) == (row.labels, row.versus)]  # raw pixels have a mode of their own
        gain = means[ours[0], "auroc"] - means[theirs[0], "auroc"] if ours and theirs else math.nan
        if not (abs(gain - row.auroc_gain) < _ROUNDING and _in_order(row)):
            return f"the gain over {row.versus} at {row.labels}"
    return ""


def _contradicted_class(row: SummaryRow, document: ResultsDocument, y: np.ndarray, draws: Sequence[Prob]) -> str:
    """The first score of one class in a row of the summary that the predictions contradict; "" where there is none."""
    names, metrics = [one.name for one in document.task.classes], {"auroc": auroc, "auprc": auprc}
    for stated in row.per_class:
        if stated.name not in names:
            return f"the class {stated.name!r}"
        c = names.index(stated.name)
        truth = y[:, [c]] if y.ndim > 1 else (y == c).astype(int)[:, None]
        scores = [score(truth, prob[:, [c]], metrics) for prob in draws]
        for name in metrics:
            value: Score = getattr(stated, name)
            if not (abs(float(np.mean([one[name] for one in scores])) - value.mean) < _ROUNDING and _in_order(value)):
                return f"{name} of the class {stated.name!r}"
    return ""


def _in_order(interval: Score | PairedRow) -> bool:
    found = ends(interval)
    return found is None or found[0] <= found[1]


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
