"""The scores against scikit-learn with sample weights, and against cases worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    roc_auc_score,
    roc_curve,
)

from medssl.evaluate.stats import metrics

ONCE = np.ones((1, 4))


def two_columns(positive: list[float]) -> np.ndarray:
    column = np.array(positive)
    return np.stack([1 - column, column], axis=1)


def made_up(k: int, n: int = 120, resamples: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(k)
    y = generator.integers(0, k, n)
    logits = generator.normal(size=(n, k)).round(1) + 1.0 * np.eye(k)[y]  # rounded: many ties
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    weights = generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    weights[-1] = generator.random(n)
    return y, prob, weights


def one_hot(y: np.ndarray, k: int) -> np.ndarray:
    return np.eye(k)[y]


def curves(y: np.ndarray, prob: np.ndarray, w: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """False and true positive rates of each class against the rest."""
    classes = [1] if prob.shape[1] == 2 else range(prob.shape[1])
    return [roc_curve(y == c, prob[:, c], sample_weight=w, drop_intermediate=False)[:2] for c in classes]


@pytest.mark.parametrize("k", [2, 3, 5])
def test_every_weighting_gives_what_scikit_learn_gives(k: int) -> None:
    y, prob, weights = made_up(k)
    tied = prob[:, 1] if k == 2 else prob
    for metric, reference in [
        (metrics.auroc, lambda w: roc_auc_score(y, tied, sample_weight=w, multi_class="ovr", average="macro")),
        (metrics.accuracy, lambda w: accuracy_score(y, prob.argmax(1), sample_weight=w)),
        (metrics.balanced_accuracy, lambda w: balanced_accuracy_score(y, prob.argmax(1), sample_weight=w)),
        (metrics.f1, lambda w: f1_score(y, prob.argmax(1), sample_weight=w, average="binary" if k == 2 else "macro")),
        (metrics.brier, lambda w: brier_score_loss(y, tied, sample_weight=w)),
        (
            metrics.sensitivity_at_95_specificity,
            lambda w: np.mean([tpr[fpr <= 0.05 + 1e-12].max() for fpr, tpr in curves(y, prob, w)]),
        ),
        (
            metrics.specificity_at_95_sensitivity,
            lambda w: np.mean([1 - fpr[tpr >= 0.95 - 1e-12].min() for fpr, tpr in curves(y, prob, w)]),
        ),
        (
            metrics.auprc,
            lambda w: average_precision_score(y if k == 2 else one_hot(y, k), tied, sample_weight=w, average="macro"),
        ),
    ]:
        expected = np.array([reference(w) for w in weights])
        np.testing.assert_allclose(metric(y, prob, weights), expected, rtol=0, atol=1e-9, err_msg=metric.__name__)


def test_auroc_counts_pairs_and_half_a_pair_for_a_tie() -> None:
    # positives 0.8 and 0.5, negatives 0.5 and 0.1: pairs won 0.8>0.5, 0.8>0.1, 0.5>0.1, tied 0.5=0.5: 3.5 of 4
    y = np.array([1, 1, 0, 0])
    assert metrics.auroc(y, two_columns([0.8, 0.5, 0.5, 0.1]), ONCE) == pytest.approx([3.5 / 4])


def test_a_weight_of_two_equals_the_image_standing_twice() -> None:
    y, prob, _ = made_up(3, n=40)
    twice = np.concatenate([np.arange(40), np.arange(10)])
    weights = np.ones((1, 40))
    weights[0, :10] = 2
    for name, metric in metrics.METRICS.items():
        copied = metric(y[twice], prob[twice], np.ones((1, 50)))
        np.testing.assert_allclose(metric(y, prob, weights), copied, rtol=0, atol=1e-12, err_msg=name)


def test_operating_points_worked_by_hand() -> None:
    # negatives 0.05, 0.10 ... 1.00, twenty of them: a specificity of 0.95 allows one above the threshold, which then lies at 0.96 or
    # above; of the positives 0.97, 0.96, 0.95, 0.2 two are there. To find all four, 17 negatives from 0.2 on are called positive.
    y = np.array([0] * 20 + [1] * 4)
    prob = two_columns([i / 20 for i in range(1, 21)] + [0.97, 0.96, 0.95, 0.2])
    once = np.ones((1, 24))
    assert metrics.sensitivity_at_95_specificity(y, prob, once) == pytest.approx([2 / 4])
    assert metrics.specificity_at_95_sensitivity(y, prob, once) == pytest.approx([3 / 20])


def test_scores_are_those_of_the_medmnist_evaluator() -> None:
    from medmnist.evaluator import getACC, getAUC

    for k, task in ((2, "binary-class"), (4, "multi-class"), (5, "ordinal-regression")):
        y, prob, _ = made_up(k)
        clear = np.diff(np.sort(prob, axis=1)[:, -2:], axis=1)[:, 0] > 1e-9  # rounding decides ties, here and there
        y, prob = y[clear], prob[clear]
        scores = metrics.score(y, prob)
        given = prob[:, 1] if k == 2 else prob
        assert scores["auroc"] == pytest.approx(getAUC(y[:, None], given, task), abs=1e-9)
        assert scores["accuracy"] == pytest.approx(getACC(y[:, None], given, task), abs=1e-9)


def test_ece_worked_by_hand() -> None:
    # one bin holds 0.9 (right) and 0.9 (wrong): |0.5 - 0.9| * 2/4; the bin (0.6, 0.667] 0.61 and 0.65, both right: |1 - 0.63| * 2/4
    y = np.array([1, 0, 1, 0])
    prob = two_columns([0.9, 0.9, 0.61, 0.35])
    assert metrics.ece(y, prob, ONCE) == pytest.approx([0.5 * 0.4 + 0.5 * 0.37])


def test_a_confidence_on_a_bin_edge_belongs_to_the_lower_bin() -> None:
    # 0.8 = 12/15 lies in (11/15, 12/15], 0.81 in the next: |1 - 0.8| / 2 + |0 - 0.81| / 2
    y = np.array([1, 0])
    assert metrics.ece(y, two_columns([0.8, 0.81]), np.ones((1, 2))) == pytest.approx([0.1 + 0.405])


def test_an_unsure_image_counts_for_the_lower_class() -> None:
    y = np.array([0, 1, 1, 1])
    assert metrics.accuracy(y, two_columns([0.5, 0.5, 0.9, 0.9]), ONCE) == pytest.approx([0.75])


def test_a_resample_without_a_class_is_nan_and_the_others_are_untouched() -> None:
    y = np.array([0, 0, 1, 1])
    prob = two_columns([0.2, 0.6, 0.7, 0.9])
    weights = np.array([[1.0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]])
    ranking = (metrics.auroc, metrics.auprc, metrics.sensitivity_at_95_specificity, metrics.specificity_at_95_sensitivity)
    for metric in (*ranking, metrics.balanced_accuracy):
        assert np.isnan(metric(y, prob, weights)).tolist() == [True, False, True], metric.__name__
    assert np.isnan(metrics.f1(y, prob, weights)).tolist() == [True, False, False]  # of the positive class, which is there
    assert metrics.accuracy(y, prob, weights) == pytest.approx([0.5, 0.75, 1.0])


def test_score_names_every_metric() -> None:
    y = np.array([0, 0, 1, 1])
    result = metrics.score(y, two_columns([0.1, 0.4, 0.6, 0.9]))
    assert list(result) == list(metrics.METRICS)
    assert all(score == 1.0 for name, score in result.items() if name not in ("brier", "ece"))
    assert result["brier"] == pytest.approx((0.1**2 + 0.4**2) * 2 / 4)
    assert result["ece"] == pytest.approx(0.25)  # four confidences, mean 0.75, all right, each bin on the same side


def test_quadratic_kappa_is_scikit_learns_under_every_weighting() -> None:
    for k in (3, 5):
        y, prob, weights = made_up(k)
        expected = [cohen_kappa_score(y, prob.argmax(1), weights="quadratic", sample_weight=w) for w in weights]
        np.testing.assert_allclose(metrics.quadratic_kappa(y, prob, weights), expected, rtol=0, atol=1e-9)


def test_quadratic_kappa_worked_by_hand() -> None:
    # one image is wrong by two grades: the squares add up to 4. By chance each image could have had any of the four calls: a true 0 is
    # then off by 0, 4, 1 and 4 (9, twice), the 1 by 1, 1, 0 and 1 (3), the 2 by 4, 0, 1 and 0 (5): 26 of four calls each, so 6.5
    y, called = np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2])
    assert metrics.quadratic_kappa(y, np.eye(3)[called], ONCE) == pytest.approx([1 - 4 / 6.5])


def several_labels(n: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(6)
    y = (generator.random((n, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(int)
    prob = 1 / (1 + np.exp(-(generator.normal(size=y.shape).round(1) + 1.2 * y - 0.6)))
    return y, prob, generator.multinomial(n, np.full(n, 1 / n), size=6).astype(float)


def test_several_labels_are_the_mean_of_each_on_the_images_where_it_is_known() -> None:
    y, prob, weights = several_labels()
    y[np.random.default_rng(7).random(y.shape) < 0.3] = -1
    references = {
        metrics.auroc: lambda t, p, w: roc_auc_score(t, p, sample_weight=w),
        metrics.auprc: lambda t, p, w: average_precision_score(t, p, sample_weight=w),
        metrics.accuracy: lambda t, p, w: accuracy_score(t, p > 0.5, sample_weight=w),
        metrics.balanced_accuracy: lambda t, p, w: balanced_accuracy_score(t, p > 0.5, sample_weight=w),
        metrics.f1: lambda t, p, w: f1_score(t, p > 0.5, sample_weight=w),
        metrics.brier: lambda t, p, w: brier_score_loss(t, p, sample_weight=w),
    }
    for metric, reference in references.items():
        expected = [np.mean([reference(y[known, c], prob[known, c], w[known]) for c, known in enumerate((y >= 0).T)]) for w in weights]
        np.testing.assert_allclose(metrics.evaluate_metric(metric, y, prob, weights), expected, rtol=0, atol=1e-9, err_msg=metric.__name__)


def test_a_label_that_nobody_knows_under_a_weighting_is_left_out_of_the_mean_and_none_gives_nan() -> None:
    y, prob, _ = several_labels(40)
    y[:, 3] = -1
    y[20:, 2] = -1
    weights = np.ones((3, 40))
    weights[1, :20], weights[2] = 0, 0  # nobody with a known third label, then nobody at all
    for name, metric in metrics.METRICS.items():
        found = metrics.evaluate_metric(metric, y, prob, weights)
        by_label = [metrics.evaluate_metric(metric, y[:, [c]], prob[:, [c]], weights) for c in range(4)]
        expected = [np.mean([by_label[c][0] for c in range(3)]), np.mean([by_label[c][1] for c in range(2)])]
        np.testing.assert_allclose(found[:2], expected, rtol=0, atol=1e-12, err_msg=name)
        assert np.isnan(found[2]) and np.isnan(by_label[3]).all(), name


def test_several_labels_are_scored_as_the_medmnist_evaluator_does() -> None:
    from medmnist.evaluator import getACC, getAUC

    y, prob, _ = several_labels()
    scores = metrics.score(y, prob)
    assert scores["auroc"] == pytest.approx(getAUC(y, prob, "multi-label, binary-class"), abs=1e-9)
    assert scores["accuracy"] == pytest.approx(getACC(y, prob, "multi-label, binary-class"), abs=1e-9)
