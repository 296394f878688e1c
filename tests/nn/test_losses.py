"""InfoNCE against the sum written out pair by pair, and rows of unit length."""

import math

import pytest
import torch
from torch import Tensor

from medssl.nn.losses import info_nce, l2_normalize

B, D = 6, 4


def rows(seed: int) -> Tensor:
    x = torch.randn(B, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.square().sum(dim=1, keepdim=True).sqrt()


def written_out(u: list[list[float]], v: list[list[float]], tau: float, pairs: set[tuple[int, int]]) -> float:
    """- 1/B sum_i log( exp(u_i v_i / tau) / sum_k exp(u_i v_k / tau) ), k over all but the `pairs` (i, k)."""
    loss = 0.0
    for i, row in enumerate(u):
        scores = [math.exp(sum(a * b for a, b in zip(row, other, strict=True)) / tau) for other in v]
        loss -= math.log(scores[i] / sum(score for k, score in enumerate(scores) if (i, k) not in pairs)) / len(u)
    return loss


@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize(
    "pairs", [set(), {(0, 1), (0, 5), (3, 2)}, {(2, k) for k in range(B) if k != 2}], ids=["none", "some", "all of one image"]
)
def test_info_nce_is_the_sum_written_out_without_the_excluded_pairs(tau, pairs):
    u, v = rows(0), rows(1)
    excluded = torch.zeros(B, B, dtype=torch.bool)
    for pair in pairs:
        excluded[pair] = True
    expected = written_out(u.tolist(), v.tolist(), tau, pairs)
    assert abs(float(info_nce(u, v, tau, excluded)) - expected) < 1e-12
    if not pairs:
        assert abs(float(info_nce(u, v, tau)) - expected) < 1e-12


def test_an_image_all_of_whose_negatives_are_excluded_has_neither_loss_nor_gradient():
    u, v = rows(0), rows(1).requires_grad_()
    loss = info_nce(u, v, 0.1, ~torch.eye(B, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, v)
    assert float(loss.detach()) == 0
    assert not gradient.any()


def test_two_halves_whose_pairs_are_excluded_are_two_batches():
    u, v = rows(0), rows(1)
    excluded = torch.zeros(B, B, dtype=torch.bool)
    excluded[:2, 2:] = excluded[2:, :2] = True
    expected = (2 * info_nce(u[:2], v[:2], 0.1) + 4 * info_nce(u[2:], v[2:], 0.1)) / 6
    torch.testing.assert_close(info_nce(u, v, 0.1, excluded), expected, rtol=1e-12, atol=1e-12)


def test_orthogonal_images_give_the_known_value_and_equal_images_the_logarithm_of_their_number():
    eye = torch.eye(D, dtype=torch.float64)
    assert abs(float(info_nce(eye, eye, 0.5)) - math.log(1 + 3 * math.exp(-1 / 0.5))) < 1e-12
    same = eye[:1].expand(D, D)
    assert abs(float(info_nce(same, same, 0.5)) - math.log(4)) < 1e-12


def test_permuting_the_batch_leaves_the_loss_and_permuting_one_side_does_not():
    u, order = rows(0), torch.tensor([1, 0, 3, 2, 5, 4])
    v = l2_normalize(u + 0.3 * rows(1))
    expected = info_nce(u, v, 0.1)
    torch.testing.assert_close(info_nce(u[order], v[order], 0.1), expected)
    assert info_nce(u[order], v, 0.1) > expected + 1


def test_autocast_leaves_the_loss_and_its_gradient_as_they_are():
    u, v = rows(0).float().requires_grad_(), rows(1).float()
    plain = info_nce(u, v, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        cast = info_nce(u, v, 0.1)
    assert torch.equal(cast, plain)
    assert torch.equal(*(torch.autograd.grad(loss, u)[0] for loss in (cast, plain)))


def test_the_gradient_is_that_of_finite_differences():
    u, v = rows(0).requires_grad_(), rows(1).requires_grad_()
    excluded = torch.eye(B).roll(1, dims=1).bool()
    assert torch.autograd.gradcheck(lambda u, v: info_nce(u, v, 0.3, excluded), (u, v))


@pytest.mark.parametrize(
    ("given", "made"), [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)], ids=str
)
def test_unit_rows_have_length_1_and_at_least_float32(given, made):
    x = (100 * rows(0)).to(given)
    found = l2_normalize(x)
    assert found.dtype == made
    torch.testing.assert_close(found.norm(dim=1), torch.ones(B, dtype=made))
    torch.testing.assert_close(found * x.to(made).norm(dim=1, keepdim=True), x.to(made))


def test_a_row_of_zeros_stays_one_without_a_gradient_that_is_not_finite():
    x = torch.zeros(2, D, requires_grad=True)
    (gradient,) = torch.autograd.grad(l2_normalize(x).sum(), x)
    assert torch.equal(l2_normalize(x), torch.zeros(2, D))
    assert torch.isfinite(gradient).all()
