"""DeLong's test against its definition written out, against values of another implementation, and by how often it is wrong."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medssl.evaluate.stats import delong


def scores(seed: int, patients: int, images: int, gap: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, two classifiers that are equally good, patients; half of a score's noise is the patient's, shared by both classifiers."""
    generator = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), images)
    positive = owner % 2 == 1
    shared = generator.normal(size=patients)[owner] + gap * positive
    own = [generator.normal(size=patients)[owner] + 0.5 * generator.normal(size=len(owner)) for _ in range(2)]
    return positive, shared + own[0], shared + own[1], owner.astype(str)


def p_written_out(positive: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """DeLong 1988, equations 3 to 5, with the sums as they are printed."""

    def psi(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    x = [np.array([[psi(u, v) for v in s[~positive]] for u in s[positive]]) for s in (a, b)]
    v10, v01 = np.stack([k.mean(1) for k in x]), np.stack([k.mean(0) for k in x])
    s = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    z = (x[0].mean() - x[1].mean()) / math.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    return math.erfc(abs(z) / math.sqrt(2))


@pytest.mark.parametrize("seed", range(4))
def test_with_one_image_a_patient_it_is_the_test_of_delong(seed: int) -> None:
    positive, a, b, patients = scores(seed, patients=41, images=1)
    a, b = a.round(1), b.round(1)  # ties
    assert delong.p_value(positive, [a], [b], patients) == pytest.approx(p_written_out(positive, a, b), abs=1e-12)


def test_the_components_average_to_the_auroc_on_both_sides() -> None:
    positive, a, _, _ = scores(1, patients=30, images=2)
    shares = delong.components(positive, a.round(1))
    expected = roc_auc_score(positive, a.round(1))
    assert shares[positive].mean() == pytest.approx(expected, abs=1e-12)
    assert shares[~positive].mean() == pytest.approx(expected, abs=1e-12)


def test_images_of_one_patient_are_not_counted_as_many_patients() -> None:
    # every image four times: as images four times the evidence, as patients none more
    positive, a, b, patients = scores(2, patients=40, images=1)
    four = np.repeat(np.arange(40), 4)
    once = delong.p_value(positive, [a], [b], patients)
    assert delong.p_value(positive[four], [a[four]], [b[four]], patients[four]) == pytest.approx(once, abs=1e-12)
    naive = delong.p_value(positive[four], [a[four]], [b[four]], np.arange(160).astype(str))
    assert naive < once


def test_draws_stand_for_their_mean() -> None:
    positive, a, b, patients = scores(3, patients=40, images=2)
    assert delong.p_value(positive, [a, a], [b, b, b], patients) == pytest.approx(delong.p_value(positive, [a], [b], patients), abs=1e-12)
    assert delong.p_value(positive, [a, b], [b, a], patients) == 1


def test_what_cannot_be_told_is_nan_and_what_is_alike_is_one() -> None:
    positive, a, _, patients = scores(4, patients=20, images=1)
    assert delong.p_value(positive, [a], [2 * a + 1], patients) == 1
    alone = np.zeros(20, dtype=bool)
    alone[0] = True
    assert math.isnan(delong.p_value(alone, [a], [-a], patients))
    assert math.isnan(delong.p_value(positive, [1.0 * positive], [-1.0 * positive], patients))


@pytest.mark.parametrize(("images", "healed"), [(1, False), (4, False), (4, True)])
def test_of_two_classifiers_that_are_equally_good_one_in_twenty_pairs_is_told_apart(images: int, healed: bool) -> None:
    """`healed`: half of each patient's images are positive, so that one patient's noise is on both sides."""
    wrong = 0
    for seed in range(1000):
        positive, a, b, patients = scores(seed, 80, images)
        if healed:
            ill = np.arange(len(positive)) % 2 == 1
            positive, a, b = ill, a - positive + ill, b - positive + ill
        wrong += delong.p_value(positive, [a], [b], patients) < 0.05
    assert 35 < wrong < 68  # two binomial standard errors are 14; small samples add a little
