"""The linear probe: what is fitted, on what, and how the penalty is chosen."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medssl.evaluate.models import linear_probe
from medssl.evaluate.models.linear_probe import USUAL_C, Probe, choose_c, fit_probe
from medssl.evaluate.stats.calibration import fit_temperature


def blobs(n: int, d: int, gap: float, seed: int = 0, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = generator.normal(size=(n, d))
    x[np.arange(n), y] += gap
    return x.astype(np.float32), y, np.array([f"p{i}" for i in range(n)])


def fitted(x: np.ndarray, y: np.ndarray, patients: np.ndarray, classes: int = 2, seed: int = 0, **more: str) -> Probe:
    return fit_probe(x, y, patients, classes, seed, **more)


def test_the_scale_and_origin_of_a_feature_do_not_matter() -> None:
    x, y, patients = blobs(60, 5, gap=1.5)
    moved = x * np.array([1, 1000, 0.01, 1, 1], np.float32) + np.array([0, 50, 0, -3, 0], np.float32)
    prob = fitted(x, y, patients).probabilities(x)
    np.testing.assert_allclose(fitted(moved, y, patients).probabilities(moved), prob, atol=1e-3)


def test_it_is_logistic_regression_on_the_given_images_standardised_by_their_own_moments() -> None:
    x, y, patients = blobs(80, 4, gap=1)
    given = x.astype(np.float64)
    standard = (given - given.mean(0)) / given.std(0)
    c, _ = choose_c(x, y, patients, seed=0)
    by_hand = LogisticRegression(C=c).fit(standard, y)
    np.testing.assert_allclose(fitted(x, y, patients).probabilities(x), by_hand.predict_proba(standard), atol=1e-3)


def test_the_same_arguments_give_the_same_probe() -> None:
    x, y, patients = blobs(50, 20, gap=1)
    first, second = (fitted(x, y, patients, seed=3).probabilities(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_noise_features_get_a_penalty_at_least_as_strong_as_usual_and_a_hopeless_one_is_left() -> None:
    x, y, patients = blobs(400, 200, gap=0.0)
    x[:, 0] = y + 0.05 * np.random.default_rng(1).normal(size=400)  # one clean feature among 199 of noise
    assert choose_c(x, y, patients, seed=0)[0] >= USUAL_C
    direction = np.random.default_rng(2).normal(size=(1, 200)).astype(np.float32)
    x, y, patients = blobs(400, 200, gap=0.0)
    x += 0.05 * direction * (2 * y[:, None] - 1)  # a little signal in every feature: the strong penalty is right
    assert choose_c(x, y, patients, seed=0)[0] <= USUAL_C


def test_a_patient_is_never_on_both_sides_of_a_fold() -> None:
    y = np.tile([0, 1, 1, 0, 0, 1], 10)
    patients = np.repeat([f"p{i}" for i in range(20)], 3)
    folds = linear_probe.make_folds(y, patients, seed=0)
    assert len(folds) == 5
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(60))
    for known, held in folds:
        assert not set(patients[known]) & set(patients[held])


@pytest.mark.parametrize(
    ("y", "patients"),
    [
        ([0, 1, 0, 1], ["a", "b", "a", "b"]),  # four images, one patient for each class
        ([0, 0, 0, 1], ["a", "b", "c", "d"]),
        ([0, 1, 1, 1, 1], ["a", "a", "b", "c", "d"]),
    ],
)
def test_too_few_patients_for_folds_give_the_usual_penalty_and_a_probe_all_the_same(y: list[int], patients: list[str]) -> None:
    x = np.random.default_rng(0).normal(size=(len(y), 8)).astype(np.float32)
    assert choose_c(x, np.array(y), np.array(patients), seed=0)[0] == USUAL_C
    model = fitted(x, np.array(y), np.array(patients))
    assert np.isfinite(model.probabilities(x)).all() and model.temperature == 1


def test_a_feature_that_is_constant_among_the_given_labels_does_no_harm() -> None:
    x, y, patients = blobs(30, 3, gap=2)
    x[:, 2] = 7
    assert np.isfinite(fitted(x, y, patients).probabilities(x * 1.5)).all()


def test_a_class_without_labels_gets_probability_zero_in_its_own_column() -> None:
    x, y, patients = blobs(40, 3, gap=2)
    prob = fitted(x, np.where(y == 1, 2, 0), patients, classes=4).probabilities(x)
    assert prob.shape == (40, 4) and (prob[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(prob.sum(1), 1)


def test_three_classes_are_told_apart() -> None:
    x, y, patients = blobs(150, 6, gap=2.5, classes=3)
    unseen, truth, _ = blobs(150, 6, gap=2.5, classes=3, seed=9)
    prob = fitted(x, y, patients, classes=3).probabilities(unseen)
    assert roc_auc_score(truth, prob, multi_class="ovr") > 0.93


def test_balance_makes_the_rare_class_count_as_much_as_scikit_learns_class_weight_does() -> None:
    x, y, patients = blobs(90, 4, gap=1)
    y[:70] = 0
    standard = (x - x.mean(0)) / x.std(0)
    by_hand = LogisticRegression(C=choose_c(x, y, patients, 0, "balanced")[0], class_weight="balanced").fit(standard, y)
    prob = fitted(x, y, patients, balance="balanced").probabilities(x)
    np.testing.assert_allclose(prob, by_hand.predict_proba(standard), atol=1e-3)
    assert prob[:, 1].mean() > fitted(x, y, patients).probabilities(x)[:, 1].mean() + 0.1


def test_several_labels_are_a_probe_each_on_the_images_where_they_are_known() -> None:
    x, y, patients = blobs(120, 4, gap=1.5)
    other = (x[:, 2] > 0.3).astype(int)
    several = np.stack([y, other], axis=1)
    several[::5, 1] = -1
    probe = fitted(x, several, patients)
    alone = fitted(x, y, patients).probabilities(x)[:, 1]
    known = several[:, 1] >= 0
    masked = fitted(x[known], other[known], patients[known]).probabilities(x)[:, 1]
    np.testing.assert_allclose(probe.probabilities(x), np.stack([alone, masked], axis=1), atol=1e-9)
    several[::5, 1] = 1 - other[::5]
    assert not np.allclose(fitted(x, several, patients).probabilities(x)[:, 1], masked, atol=1e-3), "the mask was not needed"


def test_the_temperature_is_fitted_to_what_the_folds_said_of_images_they_held_out() -> None:
    x, y, patients = blobs(100, 30, gap=0.9)
    _, held = choose_c(x, y, patients, seed=0)
    assert fitted(x, y, patients).temperature == fit_temperature(y, held) != fit_temperature(y, fitted(x, y, patients).probabilities(x))
