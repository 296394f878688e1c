"""The scores against scikit-learn with sample weights, and against cases worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, roc_auc_score

from medssl.evaluate import metrics

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


@pytest.mark.parametrize("k", [2, 3, 5])
def test_every_weighting_gives_what_scikit_learn_gives(k: int) -> None:
    y, prob, weights = made_up(k)
    tied = prob[:, 1] if k == 2 else prob
    for metric, reference in [
        (metrics.auroc, lambda w: roc_auc_score(y, tied, sample_weight=w, multi_class="ovr", average="macro")),
        (metrics.accuracy, lambda w: accuracy_score(y, prob.argmax(1), sample_weight=w)),
        (metrics.balanced_accuracy, lambda w: balanced_accuracy_score(y, prob.argmax(1), sample_weight=w)),
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
    for metric in (metrics.auroc, metrics.balanced_accuracy, metrics.auprc):
        assert np.isnan(metric(y, prob, weights)).tolist() == [True, False, True], metric.__name__
    assert metrics.accuracy(y, prob, weights) == pytest.approx([0.5, 0.75, 1.0])


def test_score_names_every_metric() -> None:
    y = np.array([0, 0, 1, 1])
    result = metrics.score(y, two_columns([0.1, 0.4, 0.6, 0.9]))
    assert list(result) == ["auroc", "accuracy", "balanced_accuracy", "auprc", "ece"]
    assert result["auroc"] == result["accuracy"] == 1.0
    assert result["ece"] == pytest.approx(0.25)  # four confidences, mean 0.75, all right, each bin on the same side
