"""Differences between runs that were tested on the same images, computed from their predictions.

predictions.parquet holds every probability with the key and the patient of its image, so two runs that were tested on the same images can
be compared like two initialisations of one run: in the same resamples of the test patients, and by DeLong's test.
"""

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from medssl.errors import UserError
from medssl.evaluate.schema import ResultsDocument
from medssl.evaluate.stats.bootstrap import Resamples, interval
from medssl.evaluate.stats.delong import p_value
from medssl.evaluate.stats.metrics import Prob, Scores, auroc

Group = tuple[str, str, str]  # the fraction's name, mode, init

_TEST_COLUMNS = ["key", "patient", "y_true"]
_GROUP_COLUMNS = ["labels", "mode", "init"]
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Predictions:
    """The predictions of one run, with images in the order of their keys. `test`: a hash of the test images (keys, patients, truth), equal
    for runs on the same test images. `y`: the true classes. `draws`: for each group, the probabilities [images, classes] of each draw."""

    test: str
    y: np.ndarray
    patients: np.ndarray
    draws: Mapping[Group, Sequence[Prob]]


@dataclass(frozen=True)
class Difference:
    """A difference in AUROC (`gain`) with its interval. `p_delong`: p-value of DeLong's test, None if the test is not defined."""

    gain: float
    low: float
    high: float
    p_delong: float | None


def read_predictions(path: Path, document: ResultsDocument) -> Predictions | None:
    """The predictions that belong to a results.json document; None without a file, and for a task of several labels.

    Raises UserError for a damaged file, and for a file whose scores differ from those in the document.
    """
    if document.task.kind == "multilabel" or not path.is_file():
        return None
    classes = [c.name for c in document.task.classes]
    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes())).sort_values("key", kind="stable")
        groups: dict[Any, list[pd.DataFrame]] = {
            group: [cell for _, cell in cells.groupby("draw")] for group, cells in table.groupby(_GROUP_COLUMNS)
        }
        first = next(iter(groups.values()))[0]
        index = {name: i for i, name in enumerate(classes)}
        y = np.array([index[name] for name in first["y_true"]])
        found = {group: [_probabilities(cell, first, classes) for cell in cells] for group, cells in groups.items()}
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}). Fine-tune again, or leave that run out.") from None
    once = np.ones((1, len(y)))
    for row in document.summary:
        group = row.labels, row.mode, row.init
        computed = np.mean([auroc(y, prob, once)[0] for prob in found[group]]) if group in found else math.nan
        if not abs(computed - row.auroc.mean) < _ROUNDING:
            raise UserError(f"{path} gives other scores than the results.json beside it: they do not belong together. Copy both again.")
    test = hashlib.sha256(
        "\n".join("\t".join(row) for row in zip(*(first[name] for name in _TEST_COLUMNS), strict=True)).encode()
    ).hexdigest()
    return Predictions(test, y, first["patient"].to_numpy(), found)


def _probabilities(cell: pd.DataFrame, first: pd.DataFrame, classes: Sequence[str]) -> Prob:
    prob = cell[[f"prob_{name}" for name in classes]].to_numpy(np.float64)
    if not np.array_equal(cell[_TEST_COLUMNS], first[_TEST_COLUMNS]) or cell["key"].duplicated().any() or not np.isfinite(prob).all():
        raise ValueError
    return prob


def resampled_auroc(predictions: Predictions, group: Group, resamples: Resamples) -> Scores:
    """The mean AUROC over the draws of a group, in every resample."""
    draws = predictions.draws[group]
    values: Float[np.ndarray, "d b"] = np.concatenate(
        [np.stack([auroc(predictions.y, prob, w) for prob in draws]) for w in resamples.weights()], axis=1
    )
    return np.einsum("bd,db->b", resamples.draws(len(draws)), values)


def difference(ours: tuple[Predictions, Group, Scores], theirs: tuple[Predictions, Group, Scores], level: float) -> Difference:
    """The AUROC of the first minus that of the second, both with their `resampled_auroc` on the same test images."""
    (a, group_a, values_a), (b, group_b, values_b) = ours, theirs
    assert a.test == b.test, "not the same test images"
    draws, others = a.draws[group_a], b.draws[group_b]
    once = np.ones((1, len(a.y)))
    gain = float(np.mean([auroc(a.y, p, once) for p in draws]) - np.mean([auroc(b.y, p, once) for p in others]))
    p = math.nan
    if draws[0].shape[1] == 2:
        p = p_value(a.y == 1, [prob[:, 1] for prob in draws], [prob[:, 1] for prob in others], a.patients)
    return Difference(gain, *interval(values_a - values_b, level), None if math.isnan(p) else p)
