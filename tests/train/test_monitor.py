"""The monitors against closed forms and scikit-learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from medssl.train.monitor import alignment, embedding_rank, embedding_std, knn_auroc, probe_auroc, rankme, uniformity


def test_embedding_std_is_one_on_a_sphere_and_zero_at_a_point():
    sphere = F.normalize(torch.randn(4000, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert embedding_std(sphere) == pytest.approx(1.0, abs=0.01)
    assert embedding_std(sphere[:1].repeat(50, 1)) == pytest.approx(0.0, abs=1e-5)


def test_rankme_counts_the_directions_that_are_used():
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 8)))[0]
    assert rankme(orthogonal) == pytest.approx(8, rel=1e-4)
    assert rankme(orthogonal[:, :1] @ np.ones((1, 8))) == pytest.approx(1, rel=1e-3)
    p = np.array([0.7, 0.2, 0.1])
    assert rankme(orthogonal[:, :3] * p) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-4)


def test_alignment_and_uniformity_are_the_papers_means_written_out_pair_by_pair():
    random = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(7, 5, generator=random), dim=1) for _ in range(2))
    apart = [sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for u, v in zip(x.tolist(), y.tolist(), strict=True)]
    assert alignment(x, y) == pytest.approx(sum(apart) / 7, rel=1e-5)

    def one_view(rows: list[list[float]]) -> float:
        pairs = [(i, k) for i in range(7) for k in range(i)]
        near = [math.exp(-2 * sum((a - b) ** 2 for a, b in zip(rows[i], rows[k], strict=True))) for i, k in pairs]
        return math.log(sum(near) / len(near))

    assert uniformity(x, y) == pytest.approx((one_view(x.tolist()) + one_view(y.tolist())) / 2, rel=1e-5)
    point = x[:1].repeat(7, 1)
    assert (alignment(point, point), uniformity(point, point)) == (0, 0)


def test_the_rank_of_embeddings_counts_directions_around_their_mean():
    axes = torch.eye(16)[:4]
    cross = torch.cat([axes, -axes])
    assert embedding_rank(cross) == pytest.approx(4, rel=1e-4)
    assert embedding_rank(cross + 100 * torch.ones(16)) == pytest.approx(4, rel=1e-4), "what all rows share is no direction"
    assert embedding_rank(cross[[0, 4]]) == pytest.approx(1, rel=1e-4)
    assert embedding_rank(axes[:1].repeat(9, 1)) == pytest.approx(1, rel=1e-3)
    assert math.isnan(embedding_rank(cross * torch.nan))


def test_the_probe_is_logistic_regression_with_a_fixed_penalty_on_standardised_features():
    rng = np.random.default_rng(1)
    bank, query = rng.normal(3, 2, (90, 5)), rng.normal(3, 2, (60, 5))
    bank_labels, query_labels = (np.asarray(x[:, 0] + 3 * rng.normal(size=len(x)) > 3, int) for x in (bank, query))
    x, q = ((part - bank.mean(0)) / bank.std(0) for part in (bank, query))

    def loss(wb: np.ndarray) -> float:
        return 0.01 * np.logaddexp(0, -(2 * bank_labels - 1) * (x @ wb[:-1] + wb[-1])).sum() + wb[:-1] @ wb[:-1] / 2

    scores = q @ minimize(loss, np.zeros(6), tol=1e-10).x[:-1]
    found = probe_auroc(bank.astype(np.float32), bank_labels, query.astype(np.float32), query_labels)
    assert found == pytest.approx(roc_auc_score(query_labels, scores), abs=2e-3)
    assert 0.55 < found < 0.9


def test_the_probe_is_perfect_on_separate_clusters_and_nan_where_a_class_is_missing():
    y = np.tile([0, 2, 5], 700)
    x = np.eye(6)[y] + np.random.default_rng(0).normal(0, 0.01, (len(y), 6))
    assert probe_auroc(x, y, x, y) == 1.0
    assert math.isnan(probe_auroc(x, y, x[y > 0], y[y > 0]))
    assert math.isnan(probe_auroc(x[y == 0], y[y == 0], x, y))


def test_knn_votes_as_scikit_learn_with_the_same_weights():
    rng = np.random.default_rng(0)
    bank, query = rng.normal(size=(80, 6)), rng.normal(size=(40, 6))
    bank_labels, query_labels = rng.integers(0, 2, 80), rng.integers(0, 2, 40)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def weights(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance**2 / 2) / 0.07)  # cosine from the distance of unit vectors

    voting = KNeighborsClassifier(10, weights=weights)  # pyright: ignore[reportArgumentType] - a function may be given
    reference = voting.fit(unit(bank), bank_labels).predict_proba(unit(query))[:, 1]
    found = knn_auroc(bank, bank_labels, query, query_labels, 10)
    assert found == pytest.approx(roc_auc_score(query_labels, reference), abs=1e-6)


def test_knn_is_perfect_on_separate_clusters_and_nan_where_a_class_is_missing():
    x = np.repeat(np.eye(3), 10, axis=0) + np.random.default_rng(0).normal(0, 0.01, (30, 3))
    y = np.repeat([0, 1, 2], 10)
    assert knn_auroc(x, y, x, y, 5) == 1.0
    assert math.isnan(knn_auroc(x, y, x[:20], y[:20], 5))
