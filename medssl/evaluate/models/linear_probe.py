"""The linear probe: L2-regularised logistic regression on frozen features; everything that is fitted is fitted on the given labels.

The strength of the penalty is chosen inside the given labels, by cross-validation whose folds are stratified and keep a patient together;
no other image is looked at. On a few dozen labels the best of seven scores is mostly luck, so the usual C is kept unless another one is
better by more than a standard error (the one-standard-error rule: Hastie, Tibshirani, Friedman, Elements of Statistical Learning, 7.10).
Where the labels cannot be split into folds whose training parts all hold every class, the usual C is taken. The predictions of the
validation folds fit the temperature, too. Several labels: a regression for each, on the images where it is known.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from medssl.evaluate.stats import Resamples, auroc
from medssl.evaluate.stats.calibration import fit_temperature

GRID = 10.0 ** np.arange(-5, 2)
USUAL_C = 1e-2
NEVER = -1e3  # the bias of a class that was not among the given labels: its probability is 0
_FOLDS = 5
_RESAMPLES = 200
_MAX_ITERATIONS = 1000
_COARSE = 1e-3  # of the gradient: enough to choose a penalty, in half the time

Features = Float[np.ndarray, "n d"]
Folds = list[tuple[np.ndarray, np.ndarray]]
Balance = str | None  # scikit-learn's class_weight


@dataclass(frozen=True)
class Probe:
    """A linear classifier of features as they come from the encoder: `weight` [k, d], `bias` [k], float64, the standardisation folded in.
    `temperature`: what its logits are divided by so that its probabilities are calibrated. `multilabel`: labels, each for itself."""

    weight: np.ndarray
    bias: np.ndarray
    temperature: float
    multilabel: bool

    def probabilities(self, features: Features) -> Float[np.ndarray, "n k"]:
        """Before temperature scaling."""
        logits = features.astype(np.float64) @ self.weight.T + self.bias
        return expit(logits) if self.multilabel else softmax(logits, axis=1)


def fit_probe(
    features: Features, y: Int[np.ndarray, "n ..."], patients: np.ndarray, classes: int, seed: int, balance: Balance = None
) -> Probe:
    """Logistic regression on standardised features, of the classes 0..classes-1 (`y` [n]) or of several labels (`y` [n, classes]).

    `patients`: one key per image. The features are standardised by the mean and deviation of the given images alone. The result depends
    on nothing but the arguments.
    """
    if y.ndim == 1:
        weight, bias, validated = _fit_classes(features, y, patients, classes, seed, balance)
        return Probe(weight, bias, fit_temperature(np.where(np.isnan(validated).any(1), -1, y), np.nan_to_num(validated)), multilabel=False)
    weight, bias = np.zeros((classes, features.shape[1])), np.zeros(classes)
    validated = np.full(y.shape, np.nan)
    for label in range(classes):
        known = y[:, label] >= 0
        truth = y[known, label]
        w, b, of_known = _fit_classes(features[known], truth, patients[known], 2, seed, balance)
        weight[label], bias[label], validated[known, label] = w[1] - w[0], b[1] - b[0], of_known[:, 1]
    return Probe(weight, bias, fit_temperature(np.where(np.isnan(validated), -1, y), np.nan_to_num(validated)), multilabel=True)


def _fit_classes(
    features: Features, y: Int[np.ndarray, " n"], patients: np.ndarray, classes: int, seed: int, balance: Balance
) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, "n k"]]:
    """Weights and biases of all classes, and the probabilities of each image in the fold that validated it (nan without folds)."""
    c, validated = choose_c(features, y, patients, seed, balance)
    scaler = StandardScaler().fit(features.astype(np.float64))
    model = LogisticRegression(C=c, max_iter=_MAX_ITERATIONS, class_weight=balance)
    _fit(model, np.asarray(scaler.transform(features.astype(np.float64))), y)
    weight, bias = fold_scaler(scaler, model, classes)
    prob = np.zeros((len(y), classes))
    prob[:, np.unique(y)] = validated
    return weight, bias, prob


def fold_scaler(scaler: Any, model: Any, classes: int) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]:
    """Weight and bias of a fitted StandardScaler and LogisticRegression for the classes 0..classes-1, for features as they come.

    Two classes, for which scikit-learn keeps one row, the difference, have half of it each. A class that was not among the labels has the
    weight 0 and the bias `NEVER`.
    """
    weight, bias = np.zeros((classes, len(scaler.mean_))), np.full(classes, NEVER)
    rows, offsets = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    weight[model.classes_] = rows / scaler.scale_
    bias[model.classes_] = offsets - (rows / scaler.scale_) @ scaler.mean_
    return weight, bias


def choose_c(
    features: Features, labels: Int[np.ndarray, " n"], patients: np.ndarray, seed: int, balance: Balance = None
) -> tuple[float, Float[np.ndarray, "n k"]]:
    """The C of `GRID` nearest to `USUAL_C` whose AUROC, over the images of all folds, is within one standard error of the best; and the
    probabilities under it of each image, by the fit that had not seen it (nan without folds)."""
    classes, y = np.unique(labels, return_inverse=True)
    folds = make_folds(y, patients, seed)
    if not folds:
        return USUAL_C, np.full((len(y), len(classes)), np.nan)
    prob = np.zeros((len(GRID), len(y), len(classes)))
    for train, validation in folds:
        scaler = StandardScaler().fit(features[train].astype(np.float64))
        x_train, x_validation = (np.asarray(scaler.transform(features[part].astype(np.float64))) for part in (train, validation))
        model = LogisticRegression(tol=_COARSE, warm_start=True, class_weight=balance)
        for i, c in enumerate(GRID):  # from the strongest penalty on, each fit starts at the last one's end
            _fit(model.set_params(C=c), x_train, y[train])
            prob[i, validation] = model.predict_proba(x_validation)
    scores = np.array([auroc(y, p, np.ones((1, len(y))))[0] for p in prob])
    values = np.concatenate([auroc(y, prob[scores.argmax()], w) for w in Resamples(patients, _RESAMPLES, seed).weights()])
    # of very many classes each resample lacks some: the error is unknown, and no penalty is known to be better
    error = np.nanstd(values) if np.isfinite(values).any() else np.inf
    good = np.flatnonzero(scores >= scores.max() - error)
    chosen = good[np.abs(np.log(GRID[good] / USUAL_C)).argmin()]
    return float(GRID[chosen]), prob[chosen]


def make_folds(y: np.ndarray, patients: np.ndarray, seed: int) -> Folds:
    """Up to five (training, validation) pairs; none where a class has fewer than two patients or a training part lacks a class."""
    classes = np.unique(y)
    number = min(_FOLDS, *(len(np.unique(patients[y == c])) for c in classes))
    if number < 2:
        return []
    folds = list(StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(y, y, patients))
    return folds if all(len(np.unique(y[train])) == len(classes) and len(validation) for train, validation in folds) else []


def _fit(model: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a thousand iterations are near enough for a score
        model.fit(features, labels)
