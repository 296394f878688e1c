"""Temperature scaling: a planted factor is found again, by the labels that are known, and no image changes its order of classes."""

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.metrics import log_loss

from medssl.evaluate.stats.calibration import apply_temperature, fit_temperature, negative_log_likelihood


def classes(n: int = 4000, k: int = 4, factor: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits), and what a classifier says whose logits are `factor` times as large."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.5, (n, k))
    y = (softmax(logits, axis=1).cumsum(1) < generator.random((n, 1))).sum(1)
    return y, softmax(factor * logits, axis=1)


def labels(n: int = 2000, k: int = 3, factor: float = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 1.5, (n, k))
    return (generator.random((n, k)) < expit(logits)).astype(int), expit(factor * logits)


@pytest.mark.parametrize("made_up", [classes, labels])
@pytest.mark.parametrize("factor", [3, 0.5])
def test_logits_that_were_multiplied_are_divided_again(made_up, factor):
    y, prob = made_up(factor=factor)
    assert fit_temperature(y, prob) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("made_up", [classes, labels])
def test_the_best_of_a_fine_grid_is_no_better(made_up):
    y, prob = made_up(n=300, factor=2)
    found = fit_temperature(y, prob)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 2001))
    logits = np.log(prob) if made_up is classes else logit(prob)
    if made_up is classes:
        surprise = [-np.log(softmax(logits / t, axis=1)[np.arange(len(y)), y]).mean() for t in grid]
    else:
        surprise = [-np.where(y == 1, np.log(expit(logits / t)), np.log(expit(-logits / t))).mean() for t in grid]
    unlikely = np.array(surprise) + np.log(grid) ** 2 / (2 * 0.5**2) / y.size
    assert found == pytest.approx(grid[np.argmin(unlikely)], rel=0.005)


def test_a_dozen_labels_that_are_all_right_do_not_make_it_certain_and_many_do():
    def fitted(n: int) -> float:
        prob = np.tile([[0.2, 0.8], [0.8, 0.2]], (n // 2, 1))
        return fit_temperature(prob.argmax(1), prob)

    assert 0.5 < fitted(12) < 1
    assert fitted(4000) < 0.3


def test_the_negative_log_likelihood_is_the_log_loss_after_temperature_scaling():
    y, prob = classes(n=200, factor=2)
    assert negative_log_likelihood(y, prob) == pytest.approx(log_loss(y, prob), abs=1e-9)
    assert negative_log_likelihood(y, prob, 1.7) == pytest.approx(log_loss(y, apply_temperature(prob, 1.7, multilabel=False)), abs=1e-9)
    y, prob = labels(n=200, factor=2)
    each = [log_loss(y[:, k], apply_temperature(prob, 1.7, multilabel=True)[:, k]) for k in range(3)]
    assert negative_log_likelihood(y, prob, 1.7) == pytest.approx(np.mean(each), abs=1e-9)


def test_labels_that_are_not_known_do_not_count():
    y, prob = labels(n=500, factor=3)
    masked, spoilt = y.copy(), prob.copy()
    masked[::2, 1] = -1
    spoilt[::2, 1] = 0.999
    known = masked >= 0
    assert negative_log_likelihood(masked, spoilt) == pytest.approx(log_loss(y[known], prob[known]), abs=1e-9)
    assert fit_temperature(masked, spoilt) == fit_temperature(masked, prob) != fit_temperature(y, spoilt)
    y, prob = classes(n=500, factor=3)
    some = np.where(np.arange(500) % 2, y, -1)
    assert fit_temperature(some, prob) == pytest.approx(fit_temperature(y[1::2], prob[1::2]), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3, 20])
def test_the_order_of_the_classes_in_an_image_and_of_the_images_in_a_label_stays(temperature):
    _, prob = classes(n=200)
    scaled = apply_temperature(prob, temperature, multilabel=False)
    assert (scaled.argsort(1) == prob.argsort(1)).all()
    np.testing.assert_allclose(scaled.sum(1), 1)
    _, prob = labels(n=200)
    assert (np.diff(apply_temperature(prob, temperature, multilabel=True)[prob[:, 0].argsort(), 0]) >= 0).all()


def test_a_temperature_of_one_changes_nothing_and_two_halves_the_logits():
    for multilabel, (_, prob) in ((False, classes(n=50)), (True, labels(n=50))):
        np.testing.assert_allclose(apply_temperature(prob, 1, multilabel), prob, rtol=1e-9)
    # odds of 9 to 1 are 3 to 1 under their square root
    np.testing.assert_allclose(apply_temperature(np.array([[0.1, 0.9]]), 2, multilabel=False), [[0.25, 0.75]])
    np.testing.assert_allclose(apply_temperature(np.array([[0.1, 0.9]]), 2, multilabel=True), [[0.25, 0.75]])


def test_without_a_label_held_out_the_temperature_is_one():
    _, prob = classes(n=5)
    assert fit_temperature(np.full(5, -1), prob) == 1
    assert fit_temperature(np.full((5, 4), -1), prob) == 1
    assert fit_temperature(np.array([], dtype=int), prob[:0]) == 1


@pytest.mark.parametrize("made_up", [classes, labels])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_labels_that_it_was_fitted_to_are_never_more_surprising_than_before(made_up, n):
    for factor in (0.3, 1, 4):
        y, prob = made_up(n=n, factor=factor)
        assert negative_log_likelihood(y, prob, fit_temperature(y, prob)) <= negative_log_likelihood(y, prob) + 1e-9


def test_labels_that_are_all_right_or_all_wrong_stop_at_the_bounds():
    y = np.arange(20_000) % 2  # so many that the prior does not speak
    right = np.eye(2)[y] * 0.2 + 0.4
    several = np.eye(2, dtype=int)[y]
    for truth in (y, several):
        assert fit_temperature(truth, right) == pytest.approx(0.05, rel=0.01)
        assert fit_temperature(truth, 1 - right) == pytest.approx(20, rel=0.01)
    certain = np.eye(2)[y]  # probabilities of 0 and 1, as a kNN gives them
    assert np.isfinite([negative_log_likelihood(y, 1 - certain), negative_log_likelihood(several, 1 - certain)]).all()
    assert (
        np.isfinite(apply_temperature(certain, 3, multilabel=False)).all()
        and np.isfinite(apply_temperature(certain, 3, multilabel=True)).all()
    )
