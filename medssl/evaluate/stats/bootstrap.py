"""Confidence intervals by a bootstrap over patients and label draws.

Images of one patient are not independent, so patients are drawn with replacement and each image counts as often as its patient was
drawn (a cluster bootstrap: Field and Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x). The few label draws are resampled too, so an
interval covers both questions: other test patients, and other labelled patients. All initialisations and fractions share the same
resamples: their difference in each resample is a paired difference. With few draws their own share of the variance is underestimated,
by (draws - 1) / draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from medssl.evaluate.stats.metrics import METRICS, Metric, Prob, Scores, Weights, evaluate_metric

_CHUNK = 4_000_000  # weights held at once (32 MB): the bootstrap's memory does not grow with the test set
_FEWEST_PATIENTS = 3  # one or two drawn again and again say nothing about others
_KEY = {"patients": 0, "draws": 1}


@dataclass(frozen=True)
class Resamples:
    """`count` resamples of the test patients (`patients`: one key per test image), a function of the seed alone."""

    patients: np.ndarray
    count: int
    seed: int

    def weights(self) -> Iterator[Weights]:
        """The image weights [b, n] of all resamples, in chunks that together have `count` rows."""
        rows = max(1, _CHUNK // len(self.patients))
        for start in range(0, self.count, rows):
            yield self._counts[start : start + rows][:, self._patient_of].astype(np.float64)

    def draws(self, n: int) -> Float[np.ndarray, "b n"]:
        """The shares [count, n] that n label draws have in each resample; rows sum to 1."""
        generator = np.random.default_rng([self.seed, _KEY["draws"], n])
        return generator.multinomial(n, np.full(n, 1 / n), size=self.count) / n

    @cached_property
    def _counts(self) -> np.ndarray:
        n = self._patient_of.max() + 1
        return np.random.default_rng([self.seed, _KEY["patients"]]).multinomial(n, np.full(n, 1 / n), size=self.count).astype(np.int16)

    @cached_property
    def _patient_of(self) -> np.ndarray:
        return np.unique(self.patients, return_inverse=True)[1]


def interval(values: Scores, level: float = 0.95) -> tuple[float, float]:
    """The central percentile interval of the resamples' values; those without a class (nan) are left out, nan where all are."""
    if not np.isfinite(values).any():
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def resample_scores(
    y: np.ndarray, draws: Sequence[Prob], resamples: Resamples, metrics: Mapping[str, Metric] = METRICS
) -> dict[str, Scores]:
    """Per metric the mean over the label draws in every resample, [count]; nan with one or two patients. `draws`: the test probabilities of
    each draw."""
    if len(np.unique(resamples.patients)) < _FEWEST_PATIENTS:
        return {name: np.full(resamples.count, np.nan) for name in metrics}
    chunks = [
        np.stack([[evaluate_metric(metric, y, prob, w) for metric in metrics.values()] for prob in draws]) for w in resamples.weights()
    ]
    means = np.einsum("bd,dmb->mb", resamples.draws(len(draws)), np.concatenate(chunks, axis=-1))
    return dict(zip(metrics, means, strict=True))
