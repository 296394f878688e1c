"""Is one AUROC larger than another on the same test patients? DeLong's test, for images that belong to patients.

    X_i    for a positive image i: the share of negatives that score below it, ties counting half
    Y_j    for a negative image j: the share of positives that score above it, ties counting half
    theta  = mean X = mean Y = AUROC
    d      the same of the difference between two classifiers

DeLong, DeLong, Clarke-Pearson 1988 (Biometrics 44, 837) with the variance of Obuchowski 1997 (Biometrics 53, 567), which sums X and Y
over the images of a patient first; with one image a patient it is DeLong's own. Several label draws of one classifier stand for their
mean: X, Y and theta are linear in them. The test speaks of other test patients, not of other labelled ones, as the bootstrap does too.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

Components = Float[np.ndarray, " n"]


def p_value(positive: Bool[np.ndarray, " n"], ours: Sequence[Components], theirs: Sequence[Components], patients: np.ndarray) -> float:
    """Two-sided p of equal AUROC. `ours`, `theirs`: the scores [n] of each draw; `patients`: one key per image.

    1 where both rank all images alike; nan where there is nothing to tell with: fewer than two patients of a class, or a difference that
    is the same for every image.
    """
    difference = np.mean([components(positive, s) for s in ours], axis=0) - np.mean([components(positive, s) for s in theirs], axis=0)
    error = standard_error(positive, difference, patients)
    if not error > 0:
        return 1.0 if not difference.any() else math.nan
    return math.erfc(abs(difference[positive].mean()) / error / math.sqrt(2))


def components(positive: Bool[np.ndarray, " n"], score: Components) -> Components:
    """X of the positive and Y of the negative images, each in its place."""
    of_positive, of_negative = np.sort(score[positive]), np.sort(score[~positive])
    shares = np.empty(len(score))
    shares[positive] = _below(of_negative, score[positive])
    shares[~positive] = 1 - _below(of_positive, score[~positive])
    return shares


def standard_error(positive: Bool[np.ndarray, " n"], shares: Components, patients: np.ndarray) -> float:
    """Of the mean of `shares` over positives, which is their mean over negatives; nan with fewer than two patients of a class."""
    _, patient = np.unique(patients, return_inverse=True)
    counts = [np.bincount(patient[side], minlength=patient.max() + 1) for side in (positive, ~positive)]
    known = [int((count > 0).sum()) for count in counts]
    if min(known) < 2:
        return math.nan
    theta = shares[positive].mean()
    x, y = (
        np.bincount(patient[side], shares[side] - theta, minlength=len(count)) / count.sum()
        for side, count in zip((positive, ~positive), counts, strict=True)
    )
    both = len(counts[0]) / (len(counts[0]) - 1) * (x @ y)
    variance = known[0] / (known[0] - 1) * (x @ x) + known[1] / (known[1] - 1) * (y @ y) + 2 * both
    return math.sqrt(max(0.0, variance))


def _below(ascending: Components, score: Components) -> Components:
    left, right = (np.searchsorted(ascending, score, side) for side in ("left", "right"))
    return (left + right) / (2 * max(1, len(ascending)))
