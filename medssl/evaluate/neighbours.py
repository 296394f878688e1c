"""The kNN mode: no weights at all, the vote of the nearest labelled images among frozen features."""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from medssl.evaluate.calibration import fit_temperature
from medssl.evaluate.cells import Fit
from medssl.nn.knn import vote

Features = Float[np.ndarray, "n d"]
_ASKED = 2000  # labelled images, evenly spread, whose probabilities fit the temperature


def fit_knn(
    features: Features,
    y: Int[np.ndarray, "n ..."],
    patients: Shaped[np.ndarray, " n"],
    query: Float[np.ndarray, "q d"],
    classes: int,
    k: int,
) -> Fit:
    """Probabilities [q, classes] of the queries from the k nearest labelled images, or as many as there are. `y`: classes [n], or several
    labels [n, classes] of 1, 0, and -1 where not known, which have no vote.

    The temperature is fitted on what the labelled images say of each other, those of other patients.
    """
    targets = y.astype(float) if y.ndim == 2 else np.eye(classes)[y]
    bank, known = torch.from_numpy(features), torch.from_numpy(np.where(targets < 0, np.nan, targets))
    prob = _certain(vote(bank, known, torch.from_numpy(query), k).numpy(), y)
    asked = np.linspace(0, len(y) - 1, min(len(y), _ASKED)).astype(int)
    same = torch.from_numpy(patients[asked, None] == patients)
    if not (others := int((~same).sum(1).min())):
        return Fit(prob, 1.0, len(y))
    of_others = vote(bank, known, bank[asked], min(k, others), barred=same).numpy()
    return Fit(prob, fit_temperature(y[asked], _certain(of_others, y)), len(y))


def _certain(prob: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where none of the neighbours knows of a label, what is usual."""
    if y.ndim == 1:
        return prob
    usual = (y == 1).sum(0) / np.maximum((y >= 0).sum(0), 1)
    return np.where(np.isnan(prob), usual, prob)
