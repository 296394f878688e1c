"""Gated attention equals its formula by hand, finds the one slice that shows a class, and gives the same numbers from its file."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

from medssl.evaluate.models import Classifier, loudest_slices, take_volumes
from medssl.evaluate.models.attention_probe import AttentionFit, fit_attention
from medssl.evaluate.models.gated_attention import GatedAttention
from medssl.evaluate.models.linear_probe import fit_probe
from medssl.evaluate.models.pooling import pool
from medssl.evaluate.stats import auroc

WIDTH = 8
FAULTS = {
    "no gate": ("evaluate/models/gated_attention.py", " * torch.sigmoid(self.U(features))", ""),
    "shares of all volumes together": ("evaluate/models/gated_attention.py", "(shares / total[volume])", "(shares / total.mean())"),
    "the shift is not folded in": ("evaluate/models/attention_probe.py", "        layer.bias.sub_(layer.weight @ mean)\n", ""),
    "each slice is kept": ("evaluate/models/gated_attention.py", " / (shares.sum() - shares)", " / shares.sum()"),
}  # fmt: skip


class Nothing(nn.Module):
    num_features = WIDTH


def volumes(number: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of volumes of 6 to 12 slices, far from zero and of unequal scales. One slice of each volume is marked in the first feature,
    and shows the class in the second one; other slices show a class by chance."""
    random = np.random.default_rng(seed)
    sizes, y = random.integers(6, 13, number), np.arange(number) % 2
    starts = np.cumsum(sizes) - sizes
    features = random.normal(size=(sizes.sum(), WIDTH))
    features[:, 1] += 3 * random.integers(0, 2, len(features))
    marked = starts + random.integers(0, sizes)
    features[marked, 0] += 5
    features[marked, 1] = 3 * y + random.normal(size=number) / 2
    return (features * np.geomspace(0.1, 10, WIDTH) + 7).astype(np.float32), starts, y


def by_hand(attention: GatedAttention, slices: np.ndarray) -> np.ndarray:
    V, bV, U, bU, w = (attention.state_dict()[name].double().numpy() for name in ("V.weight", "V.bias", "U.weight", "U.bias", "w.weight"))
    return softmax((np.tanh(slices @ V.T + bV) * expit(slices @ U.T + bU)) @ w[0]) @ slices


def fit_few() -> AttentionFit:
    """Of 8 volumes of two patients, who cannot be split into folds: that takes no time."""
    features, starts, y = volumes(8, 0)
    return fit_attention(features, starts, y, np.array(["a", "b"])[y], 2, seed=0)


def of(fit: AttentionFit) -> Classifier:
    classifier = Classifier(Nothing(), len(fit.bias), fit.multilabel, fit.temperature, "attention")
    classifier.load_tensors(fit.tensors())
    return classifier.eval()


def test_each_volume_gets_the_mean_that_the_formula_gives_by_hand():
    fitted = fit_few()
    features, starts, _ = volumes(5, 1)
    slices = np.split(features.astype(np.float64), starts[1:])
    pooled = np.stack([by_hand(fitted.attention, each) for each in slices])
    np.testing.assert_allclose(of(fitted).pool(features, starts), pooled, rtol=1e-9)
    expected = softmax(pooled @ fitted.weight.numpy().T + fitted.bias.numpy(), axis=1)
    np.testing.assert_allclose(fitted.probabilities(features, starts), expected, rtol=1e-9)
    for factor in (1, 1e4):  # then one slice has the whole share
        fitted.attention.w.weight.mul_(factor)
        without = [by_hand(fitted.attention, np.delete(slices[2], n, axis=0)) for n in range(len(slices[2]))]
        np.testing.assert_allclose(of(fitted).pool_without_each(slices[2].astype(np.float32)), without, rtol=1e-6)


def test_before_it_has_learned_it_is_the_mean():
    features, starts, _ = volumes(5, 1)
    np.testing.assert_allclose(
        Classifier(Nothing(), 2, pooling="attention").pool(features, starts), pool(features, starts, "mean"), rtol=1e-5
    )


@pytest.mark.slow
def test_it_finds_the_slice_that_shows_the_class_where_mean_and_maximum_cannot():
    features, starts, y = volumes(60, 0)
    fitted = fit_attention(features, starts, y, np.arange(60).astype(str), 2, seed=0)
    new, new_starts, truth = volumes(200, 2)
    probe = fit_probe(pool(features, starts, "mean_max"), y, np.arange(60).astype(str), 2, seed=0)
    of_both = [fitted.probabilities(new, new_starts), probe.probabilities(pool(new, new_starts, "mean_max"))]
    learned, fixed = (auroc(truth, prob, np.ones((1, len(truth))))[0] for prob in of_both)
    assert learned > 0.8
    assert learned > fixed + 0.1
    classifier, slices = of(fitted), np.split(new, new_starts[1:])
    sure = np.flatnonzero(of_both[0].max(axis=1) > 0.9)
    hits = [loudest_slices(classifier, slices[v])[0] == slices[v][:, 0].argmax() for v in sure]
    assert np.mean(hits) > 0.6  # by chance 0.11


@pytest.mark.slow
def test_where_the_class_shifts_all_slices_a_little_it_is_not_worse_than_mean_and_maximum():
    def shifted(number: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        features, y = random.normal(size=(number, 12, 64)), np.arange(number) % 2
        features[..., 0] += y[:, None] / 2
        return features.reshape(-1, 64).astype(np.float32), np.arange(number) * 12, y

    (features, starts, y), (new, new_starts, truth) = shifted(60, 0), shifted(200, 50)
    fit = fit_attention(features, starts, y, np.arange(60).astype(str), 2, seed=0)
    probe = fit_probe(pool(features, starts, "mean_max"), y, np.arange(60).astype(str), 2, seed=0)
    of_both = [fit.probabilities(new, new_starts), probe.probabilities(pool(new, new_starts, "mean_max"))]
    learned, fixed = (auroc(truth, prob, np.ones((1, len(truth))))[0] for prob in of_both)
    assert learned > max(0.7, fixed - 0.02)


def test_the_result_depends_on_the_volumes_and_not_on_their_order_or_on_torchs_numbers():
    fitted, (features, starts, _) = fit_few(), volumes(8, 0)
    torch.manual_seed(5)
    assert all(torch.equal(tensor, fitted.tensors()[name]) for name, tensor in fit_few().tensors().items())
    chosen = np.array([4, 0, 7])
    taken, their_starts = take_volumes(features, starts, chosen)
    np.testing.assert_allclose(fitted.probabilities(taken, their_starts), fitted.probabilities(features, starts)[chosen], rtol=1e-9)


@pytest.mark.slow
def test_of_several_labels_those_that_are_not_known_teach_nothing():
    features, starts, y = volumes(80, 3)
    labels = np.stack([y, 1 - y], axis=1)
    labels[::3, 1] = -1
    fit = fit_attention(features, starts, labels, np.arange(80).astype(str), 2, seed=0)
    prob = fit.probabilities(features, starts)
    assert fit.multilabel
    assert auroc(y, np.stack([1 - prob[:, 0], prob[:, 0]], axis=1), np.ones((1, 80)))[0] > 0.9
    assert auroc(1 - y, np.stack([1 - prob[:, 1], prob[:, 1]], axis=1), np.ones((1, 80)))[0] > 0.9


def test_a_class_without_labels_has_the_probability_zero_and_few_volumes_take_the_usual_steps():
    features, starts, _ = volumes(4, 0)
    fit = fit_attention(features, starts, np.array([0, 2, 0, 2]), np.array(["a", "b", "a", "b"]), 3, seed=0)
    assert fit.probabilities(features, starts)[:, 1].max() == 0
    assert fit.temperature == 1
    np.testing.assert_allclose(of(fit).pool(features[:1], np.array([0]))[0], features[0], rtol=1e-9)
