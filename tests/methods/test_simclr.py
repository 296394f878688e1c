"""SimCLR against lightly's NT-Xent, and against eq. 1 written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from small import noise_batch, small_method

from medssl.methods.simclr import nt_xent

REFERENCE = "lightly NTXentLoss; eq. 1 summed pair by pair"
FAULTS = {
    "temperature dropped": ("z @ z.T / tau", "z @ z.T"),
    "neighbour in the batch for the positive": (".roll(len(z1))", ".roll(1)"),
    "image its own negative": ("torch.eye(len(z), dtype", "torch.zeros(len(z), len(z), dtype"),
    "one view twice": ("torch.cat([z1, z2])", "torch.cat([z1, z1])"),
    "not of unit length": ("l2_normalize(self.projector", "(self.projector"),
    "patients masked in one view": ("excluded.repeat(2, 2)", "torch.block_diag(excluded, excluded)"),
}


def rows(n: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit_rows(n: int = 5, seed: int = 0) -> torch.Tensor:
    return F.normalize(rows(n, seed), dim=1)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_the_loss_equals_lightlys(agrees, tau):
    agrees(nt_xent(unit_rows(seed=0), unit_rows(seed=1), tau), NTXentLoss(tau)(rows(seed=0), rows(seed=1)))


@pytest.mark.parametrize("masked", [False, True])
def test_the_methods_loss_equals_eq_1_written_out(agrees, masked):
    """Samples 0 and 1, 2 and 3, 4 and 5 are of one patient: masked, they stand in no sum, whichever their views."""
    m, batch = small_method("simclr", temperature=0.3, mask_same_patient=masked).double(), noise_batch()
    found = m(batch).loss
    with torch.no_grad():
        z = F.normalize(m.projector(m.encoder(torch.cat(batch.views))), dim=1).tolist()

    def score(i: int, k: int) -> float:
        return math.exp(sum(a * b for a, b in zip(z[i], z[k], strict=True)) / 0.3)

    total = 0.0
    for i in range(12):
        image, positive = i % 6, (i + 6) % 12
        others = [k for k in range(12) if k % 6 != image and not (masked and k % 6 // 2 == image // 2)]
        assert len(others) == (8 if masked else 10)
        total -= math.log(score(i, positive) / (score(i, positive) + sum(score(i, k) for k in others)))
    agrees(found, torch.tensor(total / 12, dtype=torch.float64))


def test_the_gradient_is_that_of_finite_differences():
    excluded = torch.zeros(5, 5, dtype=torch.bool)
    excluded[0, 1] = excluded[1, 0] = True
    for mask in (None, excluded):
        z1, z2 = unit_rows(seed=0).requires_grad_(), unit_rows(seed=1).requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b, mask=mask: nt_xent(a, b, 0.5, mask), (z1, z2))


def test_equal_embeddings_are_told_apart_by_chance_and_orthogonal_ones_by_their_positive(agrees):
    same, apart = unit_rows(1).expand(5, 4), torch.eye(4, dtype=torch.float64)
    agrees(nt_xent(same, same, 0.1), torch.tensor(math.log(9), dtype=torch.float64))
    agrees(nt_xent(apart, apart, 0.5), torch.tensor(math.log(1 + 6 * math.exp(-2)), dtype=torch.float64))


def test_neither_the_order_of_the_batch_nor_that_of_the_views_changes_the_loss(agrees):
    z1, z2, order = unit_rows(seed=0), unit_rows(seed=1), torch.tensor([3, 1, 4, 0, 2])
    agrees(nt_xent(z1[order], z2[order], 0.1), nt_xent(z1, z2, 0.1))
    agrees(nt_xent(z2, z1, 0.1), nt_xent(z1, z2, 0.1))


def test_a_masked_batch_of_one_patient_teaches_nothing():
    z1, z2 = unit_rows(seed=0).requires_grad_(), unit_rows(seed=1)
    loss = nt_xent(z1, z2, 0.1, ~torch.eye(5, dtype=torch.bool))
    assert float(loss.detach()) == 0
    assert not torch.autograd.grad(loss, z1)[0].any()
