"""What the report's charts show, as numbers: curves averaged over draws, confusion, calibration.

A binary question is asked of every test image: is it the positive class; of more than two classes, is it this one; of several labels,
does it have this one. Images whose label is not known are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl.evaluate.stats.metrics import ECE_BINS

GRID = np.linspace(0, 1, 201)  # where curves of several draws are averaged
_EXACT = 1e-12  # a recall that was reached is reached, whatever its last binary digit


@dataclass(frozen=True)
class Question:
    """Class or label `column` of the probabilities; `truth`: bool for each of the test images `rows`."""

    column: int
    rows: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Bins:
    """Confidence and share of right answers of each bin that has images, and its share of them. `ece`: their mean distance."""

    confidence: np.ndarray
    right: np.ndarray
    share: np.ndarray
    ece: float


def binary_questions(kind: str, y: np.ndarray, classes: int) -> list[Question]:
    """All that have both answers among the test images."""
    columns = range(classes) if kind == "multilabel" or classes > 2 else [1]
    questions = []
    for c in columns:
        known = y[:, c] if kind == "multilabel" else np.where(y < 0, -1, y == c)
        rows = np.flatnonzero(known >= 0)
        truth = known[rows] == 1
        if truth.any() and not truth.all():
            questions.append(Question(c, rows, truth))
    return questions


def roc(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Sensitivity at each of GRID as the false positive rate, between the points of the ROC curve in a straight line."""
    from sklearn.metrics import roc_curve

    false_positive_rate, sensitivity, _ = roc_curve(truth, score, drop_intermediate=False)
    return np.interp(GRID, false_positive_rate, sensitivity)


def precision_recall(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Precision at each of GRID as the recall: that of the highest threshold which reaches it, as average precision counts it."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, score)
    ascending, precision = recall[-2::-1], precision[-2::-1]  # without the point (0, 1), which no threshold has
    return precision[np.searchsorted(ascending, GRID - _EXACT)]


def over_draws(of: Callable[[np.ndarray, np.ndarray], Any], questions: Sequence[Question], draws: Sequence[np.ndarray]) -> np.ndarray:
    """`of(truth, score)` of each draw [draws, ...], the plain mean over the questions."""
    return np.array([np.mean([of(q.truth, prob[q.rows, q.column]) for q in questions], axis=0) for prob in draws])


def confusion(y: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """int [k, k]: images of each class (rows) that were called each class (columns)."""
    k, known = prob.shape[1], y >= 0
    return np.bincount(y[known] * k + prob[known].argmax(1), minlength=k * k).reshape(k, k)


def confusion_of_labels(questions: Sequence[Question], prob: np.ndarray) -> list[np.ndarray]:
    """For each label int [2, 2]: absent and present (rows), called absent and present at one half (columns)."""
    return [confusion(q.truth.astype(int), np.stack([1 - prob[q.rows, q.column], prob[q.rows, q.column]], 1)) for q in questions]


def answers(kind: str, y: np.ndarray, prob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How sure each answer was and whether it was right: of the most probable class, or of every known label on its own."""
    if kind == "multilabel":
        known = y >= 0
        p, truth = prob[known], y[known] == 1
        return np.maximum(p, 1 - p), (p > 0.5) == truth
    known = y >= 0
    return prob[known].max(1), prob[known].argmax(1) == y[known]


def reliability(confidence: np.ndarray, right: np.ndarray) -> Bins:
    """The bins ((i-1)/15, i/15] of Guo et al. 2017, as metrics.ece has them."""
    place = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    count, sure, hits = (np.bincount(place, weights, ECE_BINS) for weights in (None, confidence, right.astype(float)))
    full = count > 0
    mean, rate, share = sure[full] / count[full], hits[full] / count[full], count[full] / len(confidence)
    return Bins(mean, rate, share, float((share * np.abs(mean - rate)).sum()))
