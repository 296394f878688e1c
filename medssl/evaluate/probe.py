"""The linear probe: L2-regularised logistic regression on frozen features; everything that is fitted is fitted on the given labels.

The strength of the penalty is chosen inside the given labels, by cross-validation whose folds are stratified and keep a patient together;
no other image is looked at. On a few dozen labels the best of seven scores is mostly luck, so the usual C is kept unless another one is
better by more than a standard error (the one-standard-error rule: Hastie, Tibshirani, Friedman, Elements of Statistical Learning, 7.10).
Where the labels cannot be cut into folds that all know every class, there is nothing to choose with, and the usual C it is.
"""

import warnings

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.evaluate.intervals import Resamples
from medssl.evaluate.metrics import auroc

GRID = 10.0 ** np.arange(-5, 2)
USUAL_C = 1e-2
_FOLDS = 5
_RESAMPLES = 200
_MAX_ITERATIONS = 1000
_COARSE = 1e-3  # of the gradient: enough to choose a penalty, in half the time

Folds = list[tuple[np.ndarray, np.ndarray]]


def fit_probe(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], patients: np.ndarray, seed: int) -> Pipeline:
    """Standardisation and logistic regression, with scikit-learn's `predict_proba`; its columns are the classes among `labels`.

    `patients`: one key per image. The features are standardised by the mean and deviation of the given images alone. The result depends
    on nothing but the arguments.
    """
    c = choose_c(features, labels, patients, seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=_MAX_ITERATIONS))
    _fit(probe, features.astype(np.float64), labels)
    return probe


def probabilities(probe: Pipeline, features: Float[np.ndarray, "n d"], classes: int) -> Float[np.ndarray, "n k"]:
    """The probe's probabilities of the classes 0..classes-1; zero for a class that was not among its labels."""
    prob = np.zeros((len(features), classes))
    prob[:, probe.classes_] = probe.predict_proba(features.astype(np.float64))
    return prob


def choose_c(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], patients: np.ndarray, seed: int) -> float:
    """The C of `GRID` nearest to `USUAL_C` whose AUROC, over the images of all folds, is within one standard error of the best."""
    classes, y = np.unique(labels, return_inverse=True)
    folds = _folds(y, patients, seed)
    if not folds:
        return USUAL_C
    prob = np.zeros((len(GRID), len(y), len(classes)))
    for known, held in folds:
        scaler = StandardScaler().fit(features[known].astype(np.float64))
        given, asked = (np.asarray(scaler.transform(features[part].astype(np.float64))) for part in (known, held))
        model = LogisticRegression(tol=_COARSE, warm_start=True)  # from the strongest penalty on, each fit starts at the last one's end
        for i, c in enumerate(GRID):
            _fit(model.set_params(C=c), given, y[known])
            prob[i, held] = model.predict_proba(asked)
    scores = np.array([auroc(y, p, np.ones((1, len(y))))[0] for p in prob])
    error = np.nanstd(np.concatenate([auroc(y, prob[scores.argmax()], w) for w in Resamples(patients, _RESAMPLES, seed).weights()]))
    good = GRID[scores >= scores.max() - error]
    return float(good[np.abs(np.log(good / USUAL_C)).argmin()])


def _folds(y: np.ndarray, patients: np.ndarray, seed: int) -> Folds:
    """Up to five (known, held-out) pairs; none where a class has fewer than two patients or a fold's known part lacks a class."""
    classes = np.unique(y)
    number = min(_FOLDS, *(len(np.unique(patients[y == c])) for c in classes))
    if number < 2:
        return []
    folds = list(StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(y, y, patients))
    return folds if all(len(np.unique(y[known])) == len(classes) and len(held) for known, held in folds) else []


def _fit(model: Pipeline | LogisticRegression, features: np.ndarray, labels: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a thousand iterations are near enough for a score
        model.fit(features, labels)
