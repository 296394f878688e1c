"""The bootstrap: whole patients, shared resamples, and the coverage it promises."""

import numpy as np
import pytest

from medssl.evaluate.stats.bootstrap import Resamples, interval, resample_scores
from medssl.evaluate.stats.metrics import auroc


def separable(generator: np.random.Generator, patients: int, images: int, gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients; all images of a patient share their label and most of their noise."""
    label = np.arange(patients) % 2
    score = generator.normal(size=patients) + gap * label
    y, key = np.repeat(label, images), np.repeat(np.arange(patients), images).astype(str)
    positive = 1 / (1 + np.exp(-(np.repeat(score, images) + 0.1 * generator.normal(size=patients * images))))
    return y, np.stack([1 - positive, positive], axis=1), key


def test_all_images_of_a_patient_are_drawn_together_and_every_resample_has_as_many_patients() -> None:
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    weights = np.concatenate(list(Resamples(patients, count=200, seed=3).weights()))
    assert weights.shape == (200, 6)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 0] == weights[:, 5]).all() and (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()
    assert weights[:, 3].mean() == pytest.approx(1, abs=0.25)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    y, prob, patients = separable(np.random.default_rng(0), patients=30, images=2, gap=1)
    whole = resample_scores(y, [prob], Resamples(patients, 50, seed=1))
    monkeypatch.setattr("medssl.evaluate.stats.bootstrap._CHUNK", 7 * len(y))
    parts = resample_scores(y, [prob], Resamples(patients, 50, seed=1))
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], rtol=0, atol=1e-12)  # products sum in another order


def test_a_constant_gain_has_an_interval_of_no_width_because_resamples_are_shared() -> None:
    y, prob, patients = separable(np.random.default_rng(1), patients=40, images=1, gap=1)
    resamples = Resamples(patients, 300, seed=0)
    gain = resample_scores(y, [prob, prob], resamples)["auroc"] - resample_scores(y, [prob], resamples)["auroc"]
    assert interval(gain) == pytest.approx((0, 0), abs=1e-12)


def test_draws_that_differ_widen_the_interval() -> None:
    generator = np.random.default_rng(2)
    y, good, patients = separable(generator, patients=60, images=1, gap=2)
    chance = np.full_like(good, 0.5)
    resamples = Resamples(patients, 500, seed=0)
    low, high = interval(resample_scores(y, [good, chance], resamples)["auroc"])
    narrow_low, narrow_high = interval(resample_scores(y, [good, good], resamples)["auroc"])
    assert high - low > 2 * (narrow_high - narrow_low)
    assert low == pytest.approx(0.5)  # a quarter of the resamples hold the chance draw twice


def test_interval_is_the_central_share_of_the_values_and_skips_nan() -> None:
    assert interval(np.append(np.arange(1001.0), np.nan)) == pytest.approx((25, 975))
    assert interval(np.arange(1001.0), level=0.5) == pytest.approx((250, 750))


@pytest.mark.slow
def test_ninety_five_percent_intervals_cover_the_true_auroc_as_often_as_they_say() -> None:
    # binormal scores: AUROC = Phi(gap / sqrt 2), here with patient noise var 1 + 0.01; gap 1 gives Phi(0.7036) = 0.7592
    generator = np.random.default_rng(4)
    covered = 0
    for trial in range(1000):
        y, prob, patients = separable(generator, patients=100, images=2, gap=1)
        low, high = interval(resampled_auroc(y, prob, patients, seed=trial))
        covered += low <= 0.7592 <= high
    assert 0.93 <= covered / 1000 <= 0.97  # three binomial standard errors: 0.021


def resampled_auroc(y: np.ndarray, prob: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    return np.concatenate([auroc(y, prob, w) for w in Resamples(patients, 300, seed).weights()])


def test_resampling_images_instead_of_patients_would_be_too_narrow() -> None:
    y, prob, patients = separable(np.random.default_rng(5), patients=60, images=8, gap=1)
    by_patient = interval(resampled_auroc(y, prob, patients, seed=0))
    by_image = interval(resampled_auroc(y, prob, np.arange(len(y)).astype(str), seed=0))
    assert by_patient[1] - by_patient[0] > 2 * (by_image[1] - by_image[0])  # sqrt(8) = 2.8 in theory
