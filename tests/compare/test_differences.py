"""Differences between runs on the same test images, against scikit-learn in every resample."""

import numpy as np
import pytest
from compared import FLAT, PATIENTS, RIGHT, Y, write_run
from sklearn.metrics import roc_auc_score

from medssl.compare.differences import difference, resampled_auroc
from medssl.evaluate.stats.bootstrap import Resamples

ALL = "100pct", "linear", "pretrained"


def read(folder, drawn, **facts):
    found = write_run(folder, {"pretrained": {"100pct": drawn}}, **facts).predictions
    assert found is not None
    return found


def compared(ours, theirs):
    resamples = Resamples(PATIENTS, 300, seed=3)
    return difference(*((p, ALL, resampled_auroc(p, ALL, resamples)) for p in (ours, theirs)), level=0.9)


def test_a_perfect_ranking_gains_exactly_a_half_over_none_in_every_resample(tmp_path):
    found = compared(read(tmp_path / "a", [RIGHT]), read(tmp_path / "b", [FLAT, FLAT]))
    assert (found.gain, found.low, found.high) == (0.5, 0.5, 0.5)
    assert found.p_delong is None, "the same difference for every image: nothing to tell with"


@pytest.mark.slow
def test_the_difference_and_its_interval_are_those_of_scikit_learn_in_each_resample(tmp_path):
    rng = np.random.default_rng(0)
    ours, theirs = ([rng.random(8).round(1) for _ in range(n)] for n in (3, 2))
    found = compared(read(tmp_path / "a", ours), read(tmp_path / "b", theirs))
    once = [np.mean([roc_auc_score(Y, p) for p in draws]) for draws in (ours, theirs)]
    assert found.gain == pytest.approx(once[0] - once[1], abs=1e-12)
    resamples, gains = Resamples(PATIENTS, 300, seed=3), []
    weights = np.concatenate(list(resamples.weights()))
    assert all(len({w[i] for i in np.flatnonzero(who == PATIENTS)}) == 1 for w in weights for who in set(PATIENTS)), "patients whole"
    for b, w in enumerate(weights):
        if 0 in (w[Y == 0].sum(), w[Y == 1].sum()):
            continue
        means = [
            sum(share * roc_auc_score(Y, p, sample_weight=w) for share, p in zip(resamples.draws(len(draws))[b], draws, strict=True))
            for draws in (ours, theirs)
        ]
        gains.append(means[0] - means[1])
    assert len(gains) > 200
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gains, [0.05, 0.95])), abs=1e-9)


def test_the_same_predictions_do_not_differ(tmp_path):
    noise = np.random.default_rng(1).random(8)
    found = compared(read(tmp_path / "a", [noise]), read(tmp_path / "b", [noise]))
    assert (found.gain, found.low, found.high, found.p_delong) == (0, 0, 0, 1)
