"""The monitors against closed forms and scikit-learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier

from medssl.train.monitor import embedding_std, knn_auroc, rankme


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


def test_knn_votes_as_scikit_learn_with_the_same_weights():
    rng = np.random.default_rng(0)
    bank, query = rng.normal(size=(80, 6)), rng.normal(size=(40, 6))
    bank_labels, query_labels = rng.integers(0, 2, 80), rng.integers(0, 2, 40)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def weights(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance**2 / 2) / 0.07)  # cosine from the distance of unit vectors

    from sklearn.metrics import roc_auc_score

    voting = KNeighborsClassifier(10, weights=weights)  # pyright: ignore[reportArgumentType] - a function may be given
    reference = voting.fit(unit(bank), bank_labels).predict_proba(unit(query))[:, 1]
    found = knn_auroc(bank, bank_labels, query, query_labels, 10)
    assert found == pytest.approx(roc_auc_score(query_labels, reference), abs=1e-6)


def test_knn_is_perfect_on_separate_clusters_and_nan_where_a_class_is_missing():
    x = np.repeat(np.eye(3), 10, axis=0) + np.random.default_rng(0).normal(0, 0.01, (30, 3))
    y = np.repeat([0, 1, 2], 10)
    assert knn_auroc(x, y, x, y, 5) == 1.0
    assert math.isnan(knn_auroc(x, y, x[:20], y[:20], 5))
