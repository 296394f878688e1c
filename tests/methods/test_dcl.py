"""DCL and DCLW against lightly's losses, and against eq. 6 and 7 written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DCLLoss, DCLWLoss
from small import noise_batch, small_method

from medssl.methods.dcl import dcl_loss, pair_weights

REFERENCE = "lightly DCLLoss and DCLWLoss; eq. 6 and 7 summed pair by pair"
FAULTS = {
    "positive left among the negatives": ("masked.repeat(2, 2)", "torch.block_diag(masked, masked)"),
    "temperature of the positives dropped": ("(z1 * z2).sum(dim=1) / tau", "(z1 * z2).sum(dim=1)"),
    "weights forgotten": ("(w * positive).mean()", "positive.mean()"),
    "weights reversed": ("return 2 - len(z1) * share", "return len(z1) * share"),
    "sum for the expectation": ("2 - len(z1) * share", "2 - share"),
    "gradient through the weights": (".detach() / sigma", " / sigma"),
    "not of unit length": ("l2_normalize(self.projector", "(self.projector"),
}
lightly_warns = pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")


def rows(n: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit_rows(n: int = 5, seed: int = 0) -> torch.Tensor:
    return F.normalize(rows(n, seed), dim=1)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_the_loss_equals_lightlys(agrees, tau):
    agrees(dcl_loss(unit_rows(seed=0), unit_rows(seed=1), tau), DCLLoss(tau)(rows(seed=0), rows(seed=1)))


@lightly_warns
def test_the_weighted_loss_and_its_gradient_equal_lightlys(agrees):
    ours, theirs = ((rows(seed=0).requires_grad_(), rows(seed=1).requires_grad_()) for _ in range(2))
    z1, z2 = (F.normalize(x, dim=1) for x in ours)
    found, expected = dcl_loss(z1, z2, 0.1, pair_weights(z1, z2, 0.5)), DCLWLoss(0.1, sigma=0.5)(*theirs)
    agrees(found, expected)
    for a, b in zip(torch.autograd.grad(found, ours), torch.autograd.grad(expected, theirs), strict=True):
        agrees(a, b)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_methods_loss_equals_eq_6_and_7_written_out(agrees, weighted, masked):
    """Samples 0 and 1, 2 and 3, 4 and 5 are of one patient: masked, they stand in no U, whichever their views."""
    m = small_method("dcl", temperature=0.3, weighted=weighted, sigma=0.7, mask_same_patient=masked).double()
    found = m(noise_batch()).loss
    with torch.no_grad():
        z = F.normalize(m.projector(m.encoder(torch.cat(noise_batch().views))), dim=1).tolist()

    def dot(i: int, k: int) -> float:
        return sum(a * b for a, b in zip(z[i], z[k], strict=True))

    mean = sum(math.exp(dot(i, i + 6) / 0.7) for i in range(6)) / 6
    total = 0.0
    for i in range(12):
        image, positive = i % 6, dot(i, (i + 6) % 12)
        w = 2 - math.exp(positive / 0.7) / mean if weighted else 1
        others = [k for k in range(12) if k % 6 != image and not (masked and k % 6 // 2 == image // 2)]
        assert len(others) == (8 if masked else 10)
        total += -w * positive / 0.3 + math.log(sum(math.exp(dot(i, k) / 0.3) for k in others))
    agrees(found, torch.tensor(total / 12, dtype=torch.float64))


def test_the_gradient_is_that_of_finite_differences():
    w = torch.linspace(0.5, 1.5, 5, dtype=torch.float64)
    excluded = torch.zeros(5, 5, dtype=torch.bool)
    excluded[0, 1] = excluded[1, 0] = True
    z1, z2 = unit_rows(seed=0).requires_grad_(), unit_rows(seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: dcl_loss(a, b, 0.5), (z1, z2))
    assert torch.autograd.gradcheck(lambda a, b: dcl_loss(a, b, 0.5, w, excluded), (z1, z2))


def test_weights_are_one_on_average_the_largest_where_the_views_are_farthest_and_all_one_for_a_large_sigma(agrees):
    z1, z2 = unit_rows(seed=0), unit_rows(seed=1)
    w, one = pair_weights(z1, z2, 0.5), torch.ones((), dtype=torch.float64)
    agrees(w.mean(), one)
    assert w.argsort().tolist() == (z1 * z2).sum(dim=1).argsort(descending=True).tolist()
    assert pair_weights(z1, z2, 1e9).tolist() == pytest.approx([1] * 5)


def test_the_positive_pair_is_pulled_as_hard_when_it_is_close_as_when_it_is_far():
    """By 1 / tau, the mean over three images. Along axis 3, on which z2_0 turns away from z1_0, no negative acts."""
    pulls = []
    for angle in (0.1, 1.0):
        z1 = torch.eye(6, dtype=torch.float64)[:3].requires_grad_()
        z2 = math.cos(angle) * torch.eye(6, dtype=torch.float64)[:3] + math.sin(angle) * torch.eye(6, dtype=torch.float64)[3:]
        (gradient,) = torch.autograd.grad(dcl_loss(z1, z2, 0.2), z1)
        pulls.append(float(gradient[0, 3]) / math.sin(angle))
    assert pulls == pytest.approx([-1 / 0.2 / 3] * 2, abs=1e-12)


def test_equal_and_orthogonal_embeddings_have_the_losses_computed_by_hand(agrees):
    same, apart = unit_rows(1).expand(5, 4), torch.eye(4, dtype=torch.float64)
    agrees(dcl_loss(same, same, 0.1), torch.tensor(math.log(8), dtype=torch.float64))
    agrees(dcl_loss(apart, apart, 0.1), torch.tensor(math.log(6) - 10, dtype=torch.float64))


def test_neither_the_order_of_the_batch_nor_that_of_the_views_changes_the_loss(agrees):
    z1, z2, order = unit_rows(seed=0), unit_rows(seed=1), torch.tensor([3, 1, 4, 0, 2])
    w = pair_weights(z1, z2, 0.5)
    agrees(dcl_loss(z1[order], z2[order], 0.1, w[order]), dcl_loss(z1, z2, 0.1, w))
    agrees(dcl_loss(z2, z1, 0.1, w), dcl_loss(z1, z2, 0.1, w))


def test_the_loss_of_a_masked_batch_of_one_patient_is_not_finite_so_that_no_step_is_made():
    loss = dcl_loss(unit_rows(seed=0), unit_rows(seed=1), 0.1, 1.0, ~torch.eye(5, dtype=torch.bool))
    assert loss == -torch.inf
