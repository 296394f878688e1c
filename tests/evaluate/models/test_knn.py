"""The kNN mode: what it says of the queries, and how sure it may be by what the labelled images say of other patients."""

import numpy as np
import pytest

from medssl.evaluate.models.knn import fit_knn
from medssl.evaluate.stats.calibration import fit_temperature, negative_log_likelihood


def overlapping(patients: int, copies: int, seed: int = 0, gap: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, classes and patients; all images of a patient are nearly copies of one another, the classes overlap."""
    generator = np.random.default_rng(seed)
    y = np.arange(patients) % 2
    x = generator.normal(size=(patients, 6))
    x[:, 0] += gap * (2 * y - 1)
    x = np.repeat(x, copies, axis=0) + 0.001 * generator.normal(size=(patients * copies, 6))
    return x.astype(np.float32), np.repeat(y, copies), np.repeat([f"p{i}" for i in range(patients)], copies)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    unit = [rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True) for rows in (a, b)]
    return unit[0] @ unit[1].T


def share_of(similarity: np.ndarray, y: np.ndarray, k: int, c: int) -> float:
    """The weighted share of class c among the k most similar, and one more of whom all labelled images are a part."""
    near = np.argsort(-similarity)[:k]
    weights = np.exp(similarity[near] / 0.07)
    return float(k * (weights @ (y[near] == c) / weights.sum()) + (y == c).mean()) / (k + 1)


def test_the_probabilities_are_the_shares_of_the_weight_that_each_class_has_among_the_nearest_and_one_more() -> None:
    x, y, patients = overlapping(30, 1)
    query, *_ = overlapping(10, 1, seed=5)
    fit = fit_knn(x, y, patients, query, 3, k=7)
    expected = [[share_of(row, y, 7, c) for c in range(3)] for row in cosines(query, x)]
    np.testing.assert_allclose(fit.prob, expected, atol=1e-5)
    np.testing.assert_allclose(fit.prob.sum(1), 1)
    assert (fit.prob[:, 2] == 0).all(), "no labelled image has the third class"
    assert fit.labels == 30 and fit.tensors == {}


def test_the_temperature_is_fitted_to_what_other_patients_say_of_each_labelled_image() -> None:
    x, y, patients = overlapping(30, 3)
    similarity = cosines(x, x)
    similarity[patients[:, None] == patients] = -np.inf
    other = np.array([[share_of(row, y, 9, c) for c in range(2)] for row in similarity])
    assert fit_knn(x, y, patients, x, 2, k=9).temperature == pytest.approx(fit_temperature(y, other), rel=1e-3)


def test_images_of_one_patient_that_are_copies_of_each_other_do_not_make_it_sure_of_others() -> None:
    x, y, patients = overlapping(60, 4, gap=0.5)
    unseen, truth, _ = overlapping(200, 1, seed=9, gap=0.5)
    fit = fit_knn(x, y, patients, unseen, 2, k=12)
    alone = fit_knn(x, y, np.array([f"image {i}" for i in range(len(y))]), unseen, 2, k=12)  # as if each image were a patient
    assert alone.temperature < 0.5 and fit.temperature > 1, (alone.temperature, fit.temperature)
    assert negative_log_likelihood(truth, fit.prob, fit.temperature) < 0.8 < negative_log_likelihood(truth, fit.prob, alone.temperature)


def test_neighbours_who_agree_are_no_proof() -> None:
    """One image among 400 lies among those of the other class: a vote of 0 would make its surprise unbounded."""
    x, y, patients = overlapping(400, 1, gap=8)
    y[7] = 1 - y[7]
    fit = fit_knn(x, y, patients, x, 2, k=20)
    assert fit.prob.min() == pytest.approx(0.5 / 21, rel=0.02)
    assert fit.temperature < 1.2
    assert (np.abs(fit.prob[[6, 8]].max(1) - 20.5 / 21) < 0.002).all()


def test_more_neighbours_than_there_are_labels_are_all_of_them() -> None:
    x, y, patients = overlapping(4, 1)
    many, all_four = (fit_knn(x, y, patients, x, 2, k=k) for k in (20, 4))
    np.testing.assert_array_equal(many.prob, all_four.prob)
    assert np.isfinite(many.prob).all() and np.isfinite(many.temperature)


def test_a_single_patient_has_nobody_to_fit_a_temperature_with() -> None:
    x, y, _ = overlapping(4, 1)
    assert fit_knn(x, y, np.array(["p"] * 4), x, 2, k=3).temperature == 1


def test_of_several_labels_those_not_known_have_no_vote_and_what_nobody_near_knows_is_as_usual() -> None:
    x, y, patients = overlapping(12, 1)
    several = np.stack([y, np.full(12, -1)], axis=1)
    several[[0, 1, 2], 1] = 1, 0, 0
    fit = fit_knn(x, several, patients, x, 2, k=3)
    similarity = cosines(x, x)
    np.testing.assert_allclose(fit.prob[:, 0], [share_of(row, y, 3, 1) for row in similarity], atol=1e-5)
    for i, row in enumerate(similarity):
        near = [j for j in np.argsort(-row)[:3] if j < 3]
        weights = np.exp(row[near] / 0.07)
        expected = (3 * (weights @ several[near, 1] / weights.sum()) + 1 / 3) / 4 if near else 1 / 3  # one of the three known has it
        assert fit.prob[i, 1] == pytest.approx(expected, abs=1e-5)
    assert np.isfinite(fit.temperature)
