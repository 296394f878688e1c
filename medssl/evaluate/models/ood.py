"""How far an image lies from the training images: the Mahalanobis distance of its features (Lee et al., NeurIPS 2018, section 2.1), without
regard to classes, under a covariance shrunk by Ledoit and Wolf's formula (J. Multivariate Analysis 88:365, 2004), so that fewer images than
features do.

Deviation: the image itself, averaged down to 7 x 7, a volume to 4 x 4 x 4, is added to the encoder's features. An encoder learns to ignore
brightness and contrast, and hardly recognises an inverted image; Lee et al. take all lower layers instead, but these have other names in
each network.

    symbol   here        meaning
    x        x           [n, d] features of the training images, less their mean, in units of their deviation
    C        -           (1/n) x^T x = V diag(l / n) V^T
    a, mu    a, mu       shrinkage in [0, 1]; trace(C) / d
    S        -           (1 - a) C + a mu I
    W        whitening   S^-1 = W^T W, in the features' own units;   distance(f) = |W (f - mean)|

A training image lies nearer than a new one of the same kind, for mean and S were computed from it. So a new distance is compared with
distances of left-out images: those of each patient under mean and C of all others (a, mu and units stay); S changes by a low rank:

    H, h     H           the patient's rows of x, and one of them; n' = n - len(H)
    m        m           -sum(H) / n', the others' mean
    S'       -           (1 - a) [(x^T x - H^T H) / n' - m m^T] + a mu I = B - U^T U

    (h - m)^T S'^-1 (h - m) = |z|^2 + (z r^T) (I - r r^T)^-1 (r z^T),   z = B^-1/2 (h - m),  r = U B^-1/2        (Woodbury)

Kept are mean, W and quantiles; no image's features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from medssl.nn.encoder import to_unit_range
from medssl.types import Size

QUANTILES = 1001
EDGE, VOLUME_EDGE = 7, 4
_LEAST_A, _LEAST_MU = 1e-6, 1e-12  # so that S can be inverted, where all images are equal too
_LEAST_DEVIATION = 1e-6  # of the largest one: a feature that varies less is constant


class FeaturesWithThumbnail(nn.Module):
    """An encoder's features, and behind them the picture averaged down to 7 x 7, or the volume to 4 x 4 x 4; without an encoder the picture
    alone."""

    def __init__(self, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Shaped[Tensor, "b c *edges"]) -> Float[Tensor, "b d"]:
        unit = to_unit_range(images)
        pooled = functional.adaptive_avg_pool2d(unit, EDGE) if unit.ndim == 4 else functional.adaptive_avg_pool3d(unit, VOLUME_EDGE)
        picture = pooled.flatten(1)
        return picture if self.encoder is None else torch.cat([self.encoder(images), picture], dim=1)


def thumbnail_width(channels: int, size: Size) -> int:
    """The number of those averages of an image with `channels` channels."""
    return channels * (EDGE**2 if isinstance(size, int) else VOLUME_EDGE**3)


@dataclass(frozen=True)
class Statistics:
    """`mean` and `whitening`: as above. `quantiles`: 1001 of the left-out distances, from the nearest to the farthest."""

    mean: Float64[np.ndarray, " d"]
    whitening: Float64[np.ndarray, "d d"]
    quantiles: Float64[np.ndarray, " q"]

    def distances(self, features: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """How far each image lies from the middle of the training images."""
        return np.linalg.norm((features.astype(np.float64) - self.mean) @ self.whitening.T, axis=1)

    def shares(self, features: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """The share of the training images that lie nearer to their middle than each image, from 0 to 1."""
        return np.interp(self.distances(features), self.quantiles, np.linspace(0, 1, QUANTILES))


def fit_statistics(
    features: Float[np.ndarray, "n d"], patients: Shaped[np.ndarray, " n"], held_out: Float[np.ndarray, "m d"] | None = None
) -> Statistics:
    """The statistics of the training images' features, as `FeaturesWithThumbnail` has them; `patients`: one key per image.

    `held_out`: features of images that the network was not trained on. To a network that was trained on the labels of `features` (mode
    full) these images lie nearer than new ones, whichever patient is left out here: the quantiles are those of `held_out` then.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage  # its import takes a second, which only the fit needs

    x = features.astype(np.float64)
    mean = x.mean(axis=0)
    deviation = x.std(axis=0)
    units = np.where(deviation > _LEAST_DEVIATION * deviation.max(), deviation, 1)
    x = (x - mean) / units
    n, d = x.shape
    squares, V = np.linalg.eigh(x.T @ x)
    mu = max(float(squares.sum()) / n / d, _LEAST_MU)
    a = max(float(ledoit_wolf_shrinkage(x, assume_centered=True)), _LEAST_A)
    deviations = lambda images: np.sqrt((1 - a) * squares.clip(0) / images + a * mu)  # noqa: E731
    whitening = V.T / deviations(n)[:, None] / units
    if held_out is not None:
        without_quantiles = Statistics(mean, whitening, np.zeros(QUANTILES))
        return Statistics(mean, whitening, _quantiles(without_quantiles.distances(held_out)))
    rotated, distances = x @ V, np.empty(n)
    for rows in _groups(patients):
        H, others = rotated[rows], n - len(rows)
        m = -H.sum(axis=0) / others
        z = (H - m) / deviations(others)
        r = np.sqrt(1 - a) * np.vstack([H / np.sqrt(others), m]) / deviations(others)
        cross = r @ z.T
        added = (cross * np.linalg.solve(np.eye(len(r)) - r @ r.T, cross)).sum(axis=0)
        distances[rows] = np.sqrt((z * z).sum(axis=1) + added)
    return Statistics(mean, whitening, _quantiles(distances))


def _quantiles(distances: np.ndarray) -> np.ndarray:
    return np.quantile(distances, np.linspace(0, 1, QUANTILES))


def _groups(patients: np.ndarray) -> Iterator[Int[np.ndarray, " rows"]]:
    """The rows of each patient; of each image where there is one patient only."""
    names, patient_of, counts = np.unique(patients, return_inverse=True, return_counts=True)
    if len(names) == 1:
        return iter(np.arange(len(patients))[:, None])
    return iter(np.split(np.argsort(patient_of, kind="stable"), counts.cumsum()[:-1]))
