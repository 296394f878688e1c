"""Temperature scaling: one number that calibrates probabilities (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    T       the temperature: above 1 where the classifier is overconfident, below 1 where it is underconfident
    p       probabilities, of classes (rows sum to 1) or of several labels (each for itself)

    p_T = softmax(log p / T)      of several labels: sigmoid(logit p / T)

T is fitted by the likelihood of labels that the classifier has not seen; the order of classes in an image stays as it is.

Deviation: log T has a normal prior of mean 0 and deviation 0.5. Without it, a dozen labels that are all predicted rightly would drive T to
its lower bound. With some hundred labels the prior hardly matters.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

PRIOR = 0.5
_RANGE = (0.05, 20.0)
_TINY = 1e-12


def apply_temperature(prob: Float[np.ndarray, "n k"], temperature: float, multilabel: bool) -> Float[np.ndarray, "n k"]:
    """p_T of p; `multilabel`: labels, each for itself, instead of classes."""
    if multilabel:
        return expit(logit(np.clip(prob, _TINY, 1 - _TINY)) / temperature)
    return softmax(np.log(np.maximum(prob, _TINY)) / temperature, axis=1)


def negative_log_likelihood(y: Int[np.ndarray, "n ..."], prob: Float[np.ndarray, "n k"], temperature: float = 1) -> float:
    """The mean negative log-likelihood, in nats, of `y` under p_T: classes [n], or several labels [n, k] of 0, 1 and -1 (not known), which
    are left out; -1 is left out of classes, too."""
    known = y >= 0
    if y.ndim == 1:
        log_p = log_softmax(np.log(np.maximum(prob[known], _TINY)) / temperature, axis=1)
        return float(-log_p[np.arange(len(log_p)), y[known]].mean())
    odds, sign = logit(np.clip(prob[known], _TINY, 1 - _TINY)) / temperature, np.where(y[known] == 1, -1, 1)
    return float(np.logaddexp(0, sign * odds).mean())


def fit_temperature(y: Int[np.ndarray, "n ..."], prob: Float[np.ndarray, "n k"]) -> float:
    """The T between 0.05 and 20 that is most likely given `y`. `prob`: of images that the classifier was not fitted on. 1 without any."""
    number = int((y >= 0).sum())
    if not number:
        return 1.0

    def penalised_loss(log_t: float) -> float:
        return negative_log_likelihood(y, prob, np.exp(log_t)) + (log_t / PRIOR) ** 2 / 2 / number

    minimum: Any = minimize_scalar(penalised_loss, bounds=np.log(_RANGE), method="bounded")
    return float(np.exp(minimum.x))
