"""The kNN mode: no weights at all, the vote of the nearest labelled images among frozen features."""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.stats.calibration import fit_temperature
from medssl.nn import vote

Features = Float[np.ndarray, "n d"]
_CALIBRATION_IMAGES = 2000  # labelled images, evenly spread, whose probabilities fit the temperature


def fit_knn(
    features: Features,
    y: Int[np.ndarray, "n ..."],
    patients: Shaped[np.ndarray, " n"],
    query: Float[np.ndarray, "q d"],
    classes: int,
    k: int,
) -> CellFit:
    """Probabilities [q, classes] of the queries from the k nearest labelled images, or as many as there are. `y`: classes [n], or several
    labels [n, classes] of 1, 0, and -1 where not known, which have no vote.

    The share of each class among all labelled images counts as one more neighbour, as neighbours that agree are no proof: where a
    probability of 0 or 1 is wrong, its negative log-likelihood has no bound, and no temperature can correct this. The order of the images
    stays as it is.

    The temperature is fitted on the labelled images, each with the labelled images of other patients as its neighbours.
    """
    targets = y.astype(float) if y.ndim == 2 else np.eye(classes)[y]
    bank, known = torch.from_numpy(features), torch.from_numpy(np.where(targets < 0, np.nan, targets))
    prob = _smooth(vote(bank, known, torch.from_numpy(query), k).numpy(), targets, min(k, len(y)))
    calibration = np.linspace(0, len(y) - 1, min(len(y), _CALIBRATION_IMAGES)).astype(int)
    same = torch.from_numpy(patients[calibration, None] == patients)
    if not (others := int((~same).sum(1).min())):
        return CellFit(prob, 1.0, len(y))
    k = min(k, others)
    of_others = _smooth(vote(bank, known, bank[calibration], k, excluded=same).numpy(), targets, k)
    return CellFit(prob, fit_temperature(y[calibration], of_others), len(y))


def _smooth(prob: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """With the share of each class, or label, as one more neighbour; that share alone where no neighbour's label is known."""
    share = (targets == 1).sum(0) / np.maximum((targets >= 0).sum(0), 1)
    return np.where(np.isnan(prob), share, (k * prob + share) / (k + 1))
