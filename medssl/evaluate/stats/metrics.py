"""Scores of class probabilities under many weightings of the test images at once, so that a bootstrap is one call.

    y     int   [n]      true classes, 0..k-1
    prob  float [n, k]   predicted probabilities, rows sum to 1
    w     float [b, n]   one row of image weights per resample (ones: the plain score)

Every function returns one score per weighting, float64 [b]. Two classes: class 1 is the positive one. More: the unweighted mean over
classes of one class against the rest. A score that needs every class is nan where the weights leave a class out. Definitions are those of
scikit-learn with `sample_weight`; ECE is that of Guo et al. 2017 (arXiv 1706.04599, section 2) with 15 bins of equal width.
The two scores at a fixed point of the ROC curve read it as it stands, without interpolation between its points. Of several labels
(`measured`: y [n, k] of 0, 1 and -1 for not known, prob [n, k] each for itself) a score is the mean over the labels of the score of two
classes. AUROC and accuracy are thereby those of MedMNIST's Evaluator for each of its tasks.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int

Y = Int[np.ndarray, " n"]
Prob = Float[np.ndarray, "n k"]
Weights = Float[np.ndarray, "b n"]
Scores = Float[np.ndarray, " b"]

ECE_BINS = 15
FIXED_RATE = 0.95  # the specificity, or sensitivity, at which the other one is read
_ROUNDING = 1e-12  # of sums of weights: a point that lies exactly on the line is on the right side of it


def auroc(y: Y, prob: Prob, w: Weights) -> Scores:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half."""
    return _over_classes(y, prob, w, _auroc)


def auprc(y: Y, prob: Prob, w: Weights) -> Scores:
    """Average precision: precision at each distinct threshold, weighted by the recall gained there (no interpolation)."""
    return _over_classes(y, prob, w, _average_precision)


def accuracy(y: Y, prob: Prob, w: Weights) -> Scores:
    """Share of the weight whose most probable class is the true one (the lower class at a tie)."""
    return _ratio(w @ _correct(y, prob), w.sum(1))


def balanced_accuracy(y: Y, prob: Prob, w: Weights) -> Scores:
    """Mean over the classes of the recall."""
    members = _one_hot(y, prob.shape[1])
    weight = w @ members
    recall = np.divide(w @ (members * _correct(y, prob)[:, None]), weight, out=np.full_like(weight, np.nan), where=weight > 0)
    return recall.mean(1)


def f1(y: Y, prob: Prob, w: Weights) -> Scores:
    """Harmonic mean of precision and recall of the most probable class; 0 where no image of a class is found."""
    truth, called = _one_hot(y, prob.shape[1]), _one_hot(prob.argmax(1), prob.shape[1])
    members = w @ truth
    per_class = np.divide(2 * (w @ (truth * called)), members + w @ called, out=np.full_like(members, np.nan), where=members > 0)
    return per_class[:, 1] if prob.shape[1] == 2 else per_class.mean(1)


def sensitivity_at_95_specificity(y: Y, prob: Prob, w: Weights) -> Scores:
    """The largest sensitivity of the thresholds whose specificity is at least 0.95."""
    return _over_classes(y, prob, w, _sensitivity_at)


def specificity_at_95_sensitivity(y: Y, prob: Prob, w: Weights) -> Scores:
    """The largest specificity of the thresholds whose sensitivity is at least 0.95."""
    return _over_classes(y, prob, w, lambda positive, negative: _sensitivity_at(negative[:, ::-1], positive[:, ::-1]))


def brier(y: Y, prob: Prob, w: Weights) -> Scores:
    """Mean squared distance of the probability from the truth: of the positive class, or summed over more than two classes."""
    squares = (prob - _one_hot(y, prob.shape[1])) ** 2
    return _ratio(w @ (squares[:, 1] if prob.shape[1] == 2 else squares.sum(1)), w.sum(1))


def ece(y: Y, prob: Prob, w: Weights) -> Scores:
    """Expected calibration error: mean distance of accuracy from confidence over the bins ((i-1)/15, i/15] of the confidence."""
    confidence = prob.max(1)
    bins = _one_hot(np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1), ECE_BINS)
    return _ratio(np.abs(w @ (bins * (_correct(y, prob) - confidence)[:, None])).sum(1), w.sum(1))


def quadratic_kappa(y: Y, prob: Prob, w: Weights) -> Scores:
    """Cohen's kappa of the most probable class with quadratic weights: for classes that have an order (Cohen 1968)."""
    k = prob.shape[1]
    truth, called = _one_hot(y, k), _one_hot(prob.argmax(1), k)
    seen = w @ (truth[:, :, None] * called[:, None, :]).reshape(len(y), k * k)
    chance = ((w @ truth)[:, :, None] * (w @ called)[:, None, :]).reshape(len(w), k * k) / w.sum(1)[:, None]
    distance = ((np.arange(k)[:, None] - np.arange(k)) ** 2).ravel()
    return 1 - _ratio(seen @ distance, chance @ distance)


Metric = Callable[[Y, Prob, Weights], Scores]

METRICS: dict[str, Metric] = {
    "auroc": auroc,
    "auprc": auprc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "sensitivity_at_95_specificity": sensitivity_at_95_specificity,
    "specificity_at_95_sensitivity": specificity_at_95_sensitivity,
    "brier": brier,
    "ece": ece,
}


def evaluate_metric(metric: Metric, y: Int[np.ndarray, "n ..."], prob: Prob, w: Weights) -> Scores:
    """The metric of classes, y [n], or its mean over several labels, y [n, k]; labels that cannot be scored under a weighting are left out
    of that mean, nan where none can be."""
    if y.ndim == 1:
        return metric(y, prob, w)
    nothing = np.full(len(w), np.nan)
    values = np.array([metric(truth, p, w[:, known]) if known.any() else nothing for truth, p, known in split_labels(y, prob)])
    scored = np.isfinite(values)
    return _ratio(np.where(scored, values, 0).sum(0), scored.sum(0).astype(np.float64))


def split_labels(y: Int[np.ndarray, "n k"], prob: Prob) -> Iterator[tuple[Y, Prob, np.ndarray]]:
    """Each of several labels as a question of two classes, on the images where it is known: truth, probabilities, and which images."""
    for truth, p in zip(y.T, prob.T, strict=True):
        known = truth >= 0
        yield truth[known], two_classes(p[known]), known


def two_classes(p: Float[np.ndarray, " n"]) -> Prob:
    """The probabilities [n, 2] of "no" and "yes"."""
    return np.stack([1 - p, p], axis=1)


def score(y: Int[np.ndarray, "n ..."], prob: Prob, metrics: Mapping[str, Metric] = METRICS) -> dict[str, float]:
    """Every metric with all images counting once."""
    once = np.ones((1, len(y)))
    return {name: float(evaluate_metric(metric, y, prob, once)[0]) for name, metric in metrics.items()}


def _auroc(positive: Weights, negative: Weights) -> Scores:
    below = np.cumsum(negative, axis=1) - negative
    area = (positive * (below + negative / 2)).sum(1)
    return _ratio(area, positive.sum(1) * negative.sum(1))


def _average_precision(positive: Weights, negative: Weights) -> Scores:
    hits, calls = np.cumsum(positive[:, ::-1], axis=1), np.cumsum((positive + negative)[:, ::-1], axis=1)
    precision = np.divide(hits, calls, out=np.zeros_like(hits), where=calls > 0)
    return _ratio((positive[:, ::-1] * precision).sum(1), np.where(negative.sum(1) > 0, positive.sum(1), 0))


def _sensitivity_at(positive: Weights, negative: Weights) -> Scores:
    """Thresholds lie below each distinct value: what is not below is called positive; one above all values calls nothing."""
    called = np.cumsum(positive[:, ::-1], axis=1)[:, ::-1]
    wrongly = np.cumsum(negative[:, ::-1], axis=1)[:, ::-1]
    negatives = wrongly[:, :1]
    allowed = wrongly <= (1 - FIXED_RATE + _ROUNDING) * negatives
    return _ratio(np.where(allowed, called, 0).max(1), np.where(negatives[:, 0] > 0, called[:, 0], 0))


def _over_classes(y: Y, prob: Prob, w: Weights, of_groups: Callable[[Weights, Weights], Scores]) -> Scores:
    """The mean over classes of a score that needs, per distinct value in rising order, the weight of positives and of negatives there."""
    classes = [1] if prob.shape[1] == 2 else range(prob.shape[1])
    values = []
    for c in classes:
        order = np.argsort(prob[:, c], kind="stable")
        starts = np.flatnonzero(np.diff(prob[order, c], prepend=-np.inf))
        in_order, member = w[:, order], y[order] == c
        positive = np.add.reduceat(in_order * member, starts, axis=1)
        values.append(of_groups(positive, np.add.reduceat(in_order * ~member, starts, axis=1)))
    return np.mean(values, axis=0)


def _correct(y: Y, prob: Prob) -> Float[np.ndarray, " n"]:
    return (prob.argmax(1) == y).astype(np.float64)


def _one_hot(index: Int[np.ndarray, " n"], k: int) -> Float[np.ndarray, "n k"]:
    return np.eye(k)[index]


def _ratio(part: Scores, whole: Scores) -> Scores:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
