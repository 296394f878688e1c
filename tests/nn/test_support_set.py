"""The support set against a plain Python list that does the same."""

import pytest
import torch

from medssl.nn import support_set
from medssl.nn.losses import l2_normalize
from medssl.nn.support_set import PATIENT, ROW, STEP, SupportSet
from medssl.types import Rows


def rows(n: int, seed: int, width: int = 4) -> Rows:
    """Random unit rows of step `seed`, each of an image and a patient of its own."""
    numbers = torch.arange(n) + 1000 * seed
    tags = torch.stack([numbers, numbers, torch.full((n,), -1), torch.full((n,), seed)], dim=1)
    return Rows(l2_normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed))), tags)


def tags(*pairs: tuple[int, int]) -> torch.Tensor:
    """Of (image, patient)."""
    return torch.tensor([[row, patient, -1, 0] for row, patient in pairs])


def newest_first(support: SupportSet) -> torch.Tensor:
    size = len(support.rows)
    return support.rows[(int(support.pushed) - 1 - torch.arange(size)) % size]


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (4, 4, 4), (7, 2, 5), (25, 3)])
def test_it_holds_the_latest_rows_and_their_tags_in_order_whatever_the_batch_size(sizes):
    support = SupportSet(10, 4)
    history = list(zip(support.rows.clone(), support.tags.clone(), strict=True))
    for seed, n in enumerate(sizes):
        new = rows(n, seed)
        support.push(new)
        history += list(zip(new.values, new.tags, strict=True))
        latest = history[-10:][::-1]
        torch.testing.assert_close(newest_first(support), torch.stack([value for value, _ in latest]))
        place = (int(support.pushed) - 1 - torch.arange(10)) % 10
        assert torch.equal(support.tags[place], torch.stack([tag for _, tag in latest]))


def test_it_starts_with_unit_rows_and_keeps_unit_rows():
    support = SupportSet(10, 4)
    new = rows(4, 0)
    support.push(Rows(5 * new.values, new.tags))
    torch.testing.assert_close(support.rows.norm(dim=1), torch.ones(10))


def test_nearest_is_the_row_at_the_smallest_angle():
    support = SupportSet(4, 4)
    support.rows.copy_(torch.eye(4))
    z = l2_normalize(torch.tensor([[0.1, 0.9, 0.3, 0.0], [-1.0, 0.2, 0.1, 0.4]]))
    assert support.nearest(z, tags((0, 0), (1, 1)), 2).tolist() == [[1, 2], [3, 1]]


@pytest.mark.parametrize("size", [150, 160])  # 160 rows are searched in groups, 150 are no whole number of them
@pytest.mark.parametrize("block", [32, 64])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_looking_up_block_by_block_finds_what_the_whole_product_finds(k, block, size, monkeypatch):
    monkeypatch.setattr(support_set, "_BLOCK", block)
    support, z = SupportSet(size, 8), l2_normalize(torch.randn(30, 8))
    whole = (z @ support.rows.T).topk(k, dim=1).indices
    assert torch.equal(support.nearest(z, rows(30, 0).tags, k), whole)


def test_the_policies_find_the_nearest_row_of_those_they_allow_and_prefer():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    of = [(7, 1), (8, 1), (7, 2), (9, 2), (10, 3)]  # the rows' images and patients, at growing angles from z
    z, mine = torch.tensor([[1.0, 0.0]]), tags((7, 1))
    found = {}
    for policy in ("any", "other_images", "other_patients", "same_patient"):
        support = SupportSet(5, 2, policy)
        support.push(Rows(torch.stack([angles.cos(), angles.sin()], dim=1), tags(*of)))
        found[policy] = int(support.nearest(z, mine))
    assert found == {"any": 0, "other_images": 1, "other_patients": 3, "same_patient": 1}
    support = SupportSet(5, 2, "same_patient")
    support.push(Rows(torch.stack([angles.cos(), angles.sin()], dim=1), tags(*of)))
    assert int(support.nearest(z, tags((9, 4)))) == 0, "a patient of whom the set has no other image: any other image"
    assert int(support.nearest(z, tags((7, 4)))) == 1, "but not the image itself"


def test_place_and_count_survive_a_state_dict():
    a, b = SupportSet(10, 4), SupportSet(10, 4)
    a.push(rows(13, 0))
    b.load_state_dict(a.state_dict())
    for support in (a, b):
        support.push(rows(4, 1))
    assert torch.equal(newest_first(a), newest_first(b))


@pytest.mark.slow
def test_with_clusters_a_rare_kind_of_image_stays_which_first_in_first_out_forgets():
    def stream(support: SupportSet) -> int:
        """One row of a rare kind in the first step, then a hundred steps of the common kind; how many rare ones are left."""
        for step in range(100):
            new = rows(8, step + 1)
            new.values[:, 0] = 8.0  # the common kind: along the first axis
            if step == 0:
                new.values[:2] = torch.tensor([0.0, 0.0, 0.0, 1.0])
            support.push(Rows(l2_normalize(new.values), new.tags))
        return int((support.rows[:, 3] > 0.99).sum())

    kept = []
    for seed in range(10):
        torch.manual_seed(seed)
        assert stream(SupportSet(32, 4)) == 0
        kept.append(stream(SupportSet(32, 4, clusters=6)))
    assert kept.count(2) >= 8, kept


def test_with_clusters_the_rows_that_go_are_the_oldest_of_the_largest_cluster():
    support = SupportSet(6, 2, clusters=2)
    axes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    kinds = [0, 0, 0, 0, 1, 1]
    support.rows.copy_(axes[kinds])
    support.centroids.copy_(axes)
    support.tags.copy_(torch.tensor([[i, i, -1, i] for i in range(6)]))
    support.push(Rows(axes[[1, 1]], torch.tensor([[10, 10, -1, 6], [11, 11, -1, 6]])))
    assert sorted(support.tags[:, ROW].tolist()) == [2, 3, 4, 5, 10, 11]
    assert sorted(support.tags[:, STEP].tolist()) == [2, 3, 4, 5, 6, 6]
    assert support.tags[:, PATIENT].tolist() == support.tags[:, ROW].tolist()
