"""Curves, confusion and calibration against scikit-learn and against sums done by hand."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    multilabel_confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from medssl.evaluate.stats.curves import (
    GRID,
    Question,
    answers,
    binary_questions,
    confusion,
    confusion_of_labels,
    over_draws,
    precision_recall,
    reliability,
    roc,
)
from medssl.evaluate.stats.metrics import ece


def with_ties(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    return truth, np.round(rng.normal(truth, 1.2), 1)


def test_the_roc_curve_goes_through_the_points_of_scikit_learn_and_has_their_area() -> None:
    truth, score = with_ties()
    curve = roc(truth, score)
    alarms, found, _ = roc_curve(truth, score)
    assert np.trapezoid(curve, GRID) == pytest.approx(roc_auc_score(truth, score), abs=2e-3)
    for x, y in zip(alarms[1:-1], found[1:-1], strict=True):  # it rises, and passes each point between its neighbours on the grid
        right = np.searchsorted(GRID, x)
        assert curve[right - 1] <= y + 1e-12 or GRID[right - 1] == x or x == 0
        assert curve[right] >= y - 1e-12


def test_the_roc_curve_of_four_images_is_that_drawn_by_hand() -> None:
    curve = roc(np.array([False, True, False, True]), np.array([0.1, 0.4, 0.4, 0.8]))
    assert [curve[np.searchsorted(GRID, x)] for x in (0, 0.25, 0.5, 1)] == pytest.approx([0.5, 0.75, 1, 1])


def test_precision_is_that_of_the_highest_threshold_which_reaches_the_recall() -> None:
    truth, score = with_ties(seed=1)
    curve = precision_recall(truth, score)
    precision, recall, _ = precision_recall_curve(truth, score)
    for at in (0, 40, 100, 137, 200):
        enough = recall[:-1] >= GRID[at] - 1e-12
        assert curve[at] == precision[:-1][enough][-1]  # thresholds rise
    assert curve[1:].mean() == pytest.approx(average_precision_score(truth, score), abs=5e-3)


def test_classes_are_asked_one_against_the_rest_and_labels_only_where_they_are_known() -> None:
    assert [q.column for q in binary_questions("multiclass", np.array([0, 1, 1]), 2)] == [1]
    of_three = binary_questions("multiclass", np.array([0, 2, 1, -1]), 3)
    assert [q.truth.tolist() for q in of_three] == [[True, False, False], [False, False, True], [False, True, False]]
    assert of_three[0].rows.tolist() == [0, 1, 2]
    (only,) = binary_questions("multilabel", np.array([[1, 0], [0, 0], [-1, 0]]), 2)  # the second label is never there
    assert only.column == 0 and only.rows.tolist() == [0, 1] and only.truth.tolist() == [True, False]


def test_curves_of_draws_are_averaged_over_the_questions_within_each_draw() -> None:
    y, rng = np.arange(60) % 3, np.random.default_rng(2)
    draws = [rng.dirichlet(np.ones(3), 60) for _ in range(2)]
    areas = over_draws(roc_auc_score, binary_questions("multiclass", y, 3), draws)
    assert areas == pytest.approx([roc_auc_score(y, prob, multi_class="ovr") for prob in draws])


def test_confusion_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    y, prob = rng.integers(0, 4, 200), rng.dirichlet(np.ones(4), 200)
    assert (confusion(y, prob) == confusion_matrix(y, prob.argmax(1))).all()
    assert confusion(np.array([-1, 0]), np.array([[0.4, 0.6], [0.4, 0.6]])).tolist() == [[0, 1], [0, 0]]
    truth, p = rng.integers(0, 2, (200, 3)), rng.random((200, 3))
    found = confusion_of_labels(binary_questions("multilabel", truth, 3), p)
    assert (np.array(found) == multilabel_confusion_matrix(truth, p > 0.5)).all()


def test_bins_of_five_answers_are_those_counted_by_hand() -> None:
    bins = reliability(np.array([0.6, 0.61, 0.65, 1.0, 1.0]), np.array([True, False, True, True, False]))
    assert bins.confidence == pytest.approx([0.6, 0.63, 1.0])  # 0.6 = 9/15 closes its bin
    assert bins.right == pytest.approx([1, 0.5, 0.5])
    assert bins.share == pytest.approx([0.2, 0.4, 0.4])
    assert bins.ece == pytest.approx(0.2 * 0.4 + 0.4 * 0.13 + 0.4 * 0.5)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_error_of_the_bins_is_that_of_the_metric(classes: int) -> None:
    rng = np.random.default_rng(4)
    y, prob = rng.integers(0, classes, 300), rng.dirichlet(np.ones(classes), 300)
    assert reliability(*answers("multiclass", y, prob)).ece == pytest.approx(ece(y, prob, np.ones((1, 300)))[0])


def test_every_known_label_is_an_answer_of_its_own() -> None:
    sure, right = answers("multilabel", np.array([[1, 0], [-1, 1]]), np.array([[0.9, 0.8], [0.5, 0.3]]))
    assert sure == pytest.approx([0.9, 0.8, 0.7]) and right.tolist() == [True, False, False]


def test_a_question_without_both_answers_is_not_asked() -> None:
    assert binary_questions("multiclass", np.array([1, 1]), 2) == []
    assert isinstance(binary_questions("multiclass", np.array([0, 1]), 2)[0], Question)
