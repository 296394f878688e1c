"""Differences between runs that were tested on the same images, computed from their predictions.

predictions.parquet holds every probability with the key and the patient of its image, so two runs that were tested on the same images can
be compared like two initialisations of one run: in the same resamples of the test patients, and by DeLong's test.
"""

import math
from dataclasses import dataclass

import numpy as np

from medssl.evaluate.predictions import Group, Predictions
from medssl.evaluate.stats.bootstrap import Resamples, resample_scores
from medssl.evaluate.stats.delong import p_value
from medssl.evaluate.stats.intervals import interval_or_none
from medssl.evaluate.stats.metrics import Scores, auroc


@dataclass(frozen=True)
class Difference:
    """A difference in AUROC (`gain`) with its interval. `p_delong`: p-value of DeLong's test, None if the test is not defined.
    `low` and `high` are None where the runs were tested on one or two patients, or no resample has every class."""

    gain: float
    low: float | None
    high: float | None
    p_delong: float | None


def resampled_auroc(predictions: Predictions, group: Group, resamples: Resamples) -> Scores:
    """The mean AUROC over the draws of a group, in every resample; nan with one or two patients."""
    return resample_scores(predictions.y, predictions.draws[group], resamples, {"auroc": auroc})["auroc"]


def difference(ours: tuple[Predictions, Group, Scores], theirs: tuple[Predictions, Group, Scores], level: float) -> Difference:
    """The AUROC of the first minus that of the second, both with their `resampled_auroc` on the same test images."""
    (a, group_a, values_a), (b, group_b, values_b) = ours, theirs
    assert a.test == b.test, "not the same test images"
    draws, others = a.draws[group_a], b.draws[group_b]
    once = np.ones((1, len(a.y)))
    gain = float(np.mean([auroc(a.y, p, once) for p in draws]) - np.mean([auroc(b.y, p, once) for p in others]))
    p = math.nan
    if draws[0].shape[1] == 2:
        p = p_value(a.y == 1, [prob[:, 1] for prob in draws], [prob[:, 1] for prob in others], a.patients)
    return Difference(gain, **interval_or_none(values_a - values_b, level), p_delong=None if math.isnan(p) else p)
