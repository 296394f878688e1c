"""The support set against a plain Python list that does the same."""

import pytest
import torch
import torch.nn.functional as F

from medssl.nn.support_set import SupportSet, nearest


def rows(n: int, seed: int, width: int = 4) -> torch.Tensor:
    return F.normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (4, 4, 4), (7, 2, 5), (25, 3)])
def test_it_holds_the_latest_rows_in_order_whatever_the_batch_size(sizes):
    support = SupportSet(10, 4)
    history = list(support.rows.clone())
    for seed, n in enumerate(sizes):
        support.push(rows(n, seed))
        history += list(rows(n, seed))
        torch.testing.assert_close(support.newest_first(), torch.stack(history[-10:][::-1]))


def test_rows_that_are_not_finite_are_refused_and_nothing_is_written():
    support = SupportSet(10, 4)
    before = support.rows.clone()
    bad = rows(3, 0)
    bad[1, 2] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        support.push(bad)
    assert torch.equal(support.rows, before)
    assert int(support.pushed) == 0


def test_it_starts_with_unit_rows_and_keeps_unit_rows():
    support = SupportSet(10, 4)
    support.push(5 * rows(4, 0))
    torch.testing.assert_close(support.rows.norm(dim=1), torch.ones(10))


def test_nearest_is_the_row_at_the_smallest_angle():
    Q = torch.eye(4)
    z = F.normalize(torch.tensor([[0.1, 0.9, 0.3, 0.0], [-1.0, 0.2, 0.1, 0.4]]), dim=1)
    assert nearest(z, Q, 2).tolist() == [[1, 2], [3, 1]]


def test_place_and_count_survive_a_state_dict():
    a, b = SupportSet(10, 4), SupportSet(10, 4)
    a.push(rows(13, 0))
    b.load_state_dict(a.state_dict())
    for support in (a, b):
        support.push(rows(4, 1))
    assert torch.equal(a.newest_first(), b.newest_first())
