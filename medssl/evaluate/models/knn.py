"""The kNN mode: no weights at all, the vote of the nearest labelled images among frozen features."""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.models.calibration import fit_temperature
from medssl.nn import vote

Features = Float[np.ndarray, "n d"]
_ASKED = 2000  # labelled images, evenly spread, whose probabilities fit the temperature


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

    One more neighbour says what is usual among all, as neighbours who agree are no proof: a probability of 0 or 1 would be surprised
    without bound, and no temperature could mend it. The order of the images stays as it is.

    The temperature is fitted on what the labelled images say of each other, those of other patients.
    """
    targets = y.astype(float) if y.ndim == 2 else np.eye(classes)[y]
    bank, known = torch.from_numpy(features), torch.from_numpy(np.where(targets < 0, np.nan, targets))
    prob = _smoothed(vote(bank, known, torch.from_numpy(query), k).numpy(), targets, min(k, len(y)))
    asked = np.linspace(0, len(y) - 1, min(len(y), _ASKED)).astype(int)
    same = torch.from_numpy(patients[asked, None] == patients)
    if not (others := int((~same).sum(1).min())):
        return CellFit(prob, 1.0, len(y))
    k = min(k, others)
    of_others = _smoothed(vote(bank, known, bank[asked], k, excluded=same).numpy(), targets, k)
    return CellFit(prob, fit_temperature(y[asked], of_others), len(y))


def _smoothed(prob: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """With the one more; where none of the neighbours knows of a label, what is usual alone."""
    usual = (targets == 1).sum(0) / np.maximum((targets >= 0).sum(0), 1)
    return np.where(np.isnan(prob), usual, (k * prob + usual) / (k + 1))
