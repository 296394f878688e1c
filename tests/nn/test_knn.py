"""The neighbours' vote against a loop over pairs."""

import numpy as np
import pytest
import torch

from medssl.nn import knn


def made_up(n=40, q=9, d=5, k=3, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, (n, k)).astype(float)
    return generator.normal(size=(n, d)).astype(np.float32), targets, generator.normal(size=(q, d)).astype(np.float32)


def voted(bank, targets, query, k, excluded=None):
    """nn.knn.vote, with numpy arrays."""
    mask = None if excluded is None else torch.from_numpy(excluded)
    return knn.vote(torch.from_numpy(bank), torch.from_numpy(targets), torch.from_numpy(query), k, mask).numpy()


def by_hand(bank, targets, query, k, excluded=None):
    found = np.full((len(query), targets.shape[1]), np.nan)
    for i, x in enumerate(query.astype(np.float64)):
        similarity = [
            -np.inf if excluded is not None and excluded[i, j] else x @ b / np.linalg.norm(x) / np.linalg.norm(b)
            for j, b in enumerate(bank.astype(np.float64))
        ]
        nearest = sorted(range(len(bank)), key=lambda j: -similarity[j])[:k]
        for c in range(targets.shape[1]):
            known = [j for j in nearest if not np.isnan(targets[j, c])]
            weights = np.exp([similarity[j] / 0.07 for j in known])
            if len(known):
                found[i, c] = weights @ [targets[j, c] for j in known] / weights.sum()
    return found


@pytest.mark.parametrize("k", [1, 4, 40])
def test_it_is_the_mean_of_the_nearest_targets_weighted_by_similarity(k):
    bank, targets, query = made_up()
    np.testing.assert_allclose(voted(bank, targets, query, k), by_hand(bank, targets, query, k), atol=1e-5)


def test_targets_that_are_not_known_have_no_vote():
    bank, targets, query = made_up()
    targets[np.random.default_rng(1).random(targets.shape) < 0.4] = np.nan
    np.testing.assert_allclose(voted(bank, targets, query, 4), by_hand(bank, targets, query, 4), atol=1e-5)


def test_where_no_neighbour_is_known_the_answer_is_nan_and_the_other_targets_stay():
    bank, targets, query = made_up()
    targets[:, 1] = np.nan
    found = voted(bank, targets, query, 5)
    assert np.isnan(found[:, 1]).all() and np.isfinite(found[:, [0, 2]]).all()


def test_pairs_that_are_barred_do_not_meet():
    bank, targets, query = made_up()
    excluded = np.random.default_rng(2).random((9, 40)) < 0.5
    np.testing.assert_allclose(voted(bank, targets, query, 4, excluded), by_hand(bank, targets, query, 4, excluded), atol=1e-5)
    own = voted(bank, np.eye(40), bank, 1, np.eye(40, dtype=bool))
    assert (np.diag(own) == 0).all(), "a row that may not vote for itself"


def test_the_number_of_queries_compared_at_once_does_not_matter(monkeypatch):
    bank, targets, query = made_up(q=23)
    excluded = np.random.default_rng(2).random((23, 40)) < 0.3
    whole = voted(bank, targets, query, 6, excluded)
    for block in (1, 5, 23):
        monkeypatch.setattr(knn, "_BLOCK", block)
        np.testing.assert_allclose(voted(bank, targets, query, 6, excluded), whole, atol=1e-5)


def test_more_neighbours_than_the_bank_has_are_all_of_it():
    bank, targets, query = made_up(n=7)
    np.testing.assert_allclose(voted(bank, targets, query, 500), by_hand(bank, targets, query, 7), atol=1e-5)


def test_the_length_of_a_feature_does_not_matter():
    bank, targets, query = made_up()
    longer = bank * np.linspace(0.1, 50, 40, dtype=np.float32)[:, None]
    np.testing.assert_allclose(voted(longer, targets, 9 * query, 4), voted(bank, targets, query, 4), atol=1e-5)
