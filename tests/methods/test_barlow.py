"""Barlow Twins against lightly's loss in float64, against eq. 1 and 2 written out, and at the two ends of the correlation."""

import math

import torch
from lightly.loss import BarlowTwinsLoss
from small import noise_batch, small_method

from medssl.methods.barlow import barlow_loss, cross_correlation

REFERENCE = "lightly BarlowTwinsLoss; eq. 1 and 2 written out"
FAULTS = {
    "not scaled to variance 1": ("F.batch_norm(z, None, None, training=True)", "z - z.mean(dim=0)"),
    "not centred": ("F.batch_norm(z, None, None, training=True)", "z / z.square().mean(dim=0).sqrt()"),
    "a view with itself": ("return a.T @ b / len(a)", "return a.T @ a / len(a)"),
    "diagonal counted among the redundancy": (" - C.diagonal().square().sum()", ""),
    "lambda dropped": ("lambda_ * off_diagonal", "off_diagonal"),
    "views mixed in halves": ("map(gather, to_float32(z).chunk(2))", "z[::2], z[1::2]"),
    "correlation in bfloat16": ("@no_autocast\n", ""),
}


def embeddings(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views that are correlated, far from centred, and of another scale in each dimension."""
    random = torch.Generator().manual_seed(1)
    shared, *own = torch.randn(3, n, d, generator=random, dtype=torch.float64)
    scale = torch.linspace(0.5, 5, d, dtype=torch.float64)
    z_a, z_b = (3 + scale * (shared + 0.5 * noise) for noise in own)
    return z_a, z_b


def written_out(z_a: torch.Tensor, z_b: torch.Tensor, lambda_: float) -> torch.Tensor:
    """Eq. 1 and 2, number by number."""
    n, d = z_a.shape
    a, b = ([[float(x) for x in column] for column in z.T] for z in (z_a, z_b))
    loss = 0.0
    for i in range(d):
        for j in range(d):
            mean_a, mean_b = sum(a[i]) / n, sum(b[j]) / n
            together = sum((x - mean_a) * (y - mean_b) for x, y in zip(a[i], b[j], strict=True))
            norms = sum((x - mean_a) ** 2 for x in a[i]) * sum((y - mean_b) ** 2 for y in b[j])
            C_ij = together / math.sqrt(norms)
            loss += (1 - C_ij) ** 2 if i == j else lambda_ * C_ij**2
    return torch.tensor(loss, dtype=torch.float64)


def test_the_loss_is_lightlys(agrees):
    z_a, z_b = embeddings(12, 7)
    for lambda_ in (0.005, 0.3):
        agrees(barlow_loss(z_a, z_b, lambda_), BarlowTwinsLoss(lambda_)(z_a, z_b))


def test_the_loss_is_eq_1_written_out_for_embeddings_large_beside_the_added_variance(agrees):
    z_a, z_b = (1000 * z for z in embeddings(12, 7))
    agrees(barlow_loss(z_a, z_b, 0.3), written_out(z_a, z_b, 0.3))


def test_the_methods_loss_is_lightlys_of_its_projections(agrees):
    m, batch = small_method("barlow").double(), noise_batch()
    found = m(batch).loss
    with torch.no_grad():
        z_a, z_b = m.projector(m.encoder(torch.cat(batch.views))).chunk(2)
    agrees(found, BarlowTwinsLoss(0.005)(z_a, z_b))
    other = small_method("barlow", redundancy=0.1).double()
    agrees(other(batch).loss, BarlowTwinsLoss(0.1)(z_a, z_b))


def test_the_gradient_is_that_of_finite_differences():
    z_a, z_b = (z.requires_grad_() for z in embeddings(5, 3))
    assert torch.autograd.gradcheck(lambda a, b: barlow_loss(a, b, 0.3), (z_a, z_b))


def test_scaling_and_shifting_a_dimension_leaves_the_correlation():
    z_a, z_b = (1000 * z for z in embeddings(12, 7))
    factor = torch.linspace(1, 50, 7, dtype=torch.float64)
    torch.testing.assert_close(cross_correlation(factor * z_a - 20, z_b), cross_correlation(z_a, z_b), rtol=1e-9, atol=1e-9)


def test_permuting_the_batch_leaves_the_loss():
    z_a, z_b = embeddings(12, 7)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(barlow_loss(z_a[order], z_b[order], 0.3), barlow_loss(z_a, z_b, 0.3))
    assert barlow_loss(z_a[order], z_b, 0.3) > barlow_loss(z_a, z_b, 0.3), "the pairs count"


def test_equal_views_of_independent_dimensions_have_no_loss_and_opposite_ones_4_a_dimension():
    """The columns of a Hadamard matrix but the constant one: centred, of variance 1, orthogonal."""
    h = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    z = torch.kron(torch.kron(h, h), h)[:, 1:]
    assert abs(float(barlow_loss(z, z, 0.3))) < 1e-8
    assert abs(float(barlow_loss(z, -z, 0.3)) - 4 * 7) < 1e-3
    same = z[:, :1].expand(8, 7)
    assert abs(float(barlow_loss(same, same, 0.3)) - 0.3 * 7 * 6) < 1e-3, "all dimensions say the same"


def test_autocast_does_not_round_the_correlation():
    z_a, z_b = (z.float() for z in embeddings(64, 16))
    with torch.autocast("cpu", torch.bfloat16):
        found = cross_correlation(z_a, z_b)
    torch.testing.assert_close(found, cross_correlation(z_a.double(), z_b.double()).float(), rtol=1e-5, atol=1e-6)


def test_twenty_steps_on_one_batch_draw_the_diagonal_of_the_correlation_to_1():
    m, batch = small_method("barlow"), noise_batch(size=16)
    optimiser = torch.optim.AdamW(m.parameters(), lr=1e-3)
    diagonals = []
    for _ in range(20):
        with torch.no_grad():
            diagonals.append(float(cross_correlation(*m.projector(m.encoder(torch.cat(batch.views))).chunk(2)).diagonal().mean()))
        optimiser.zero_grad()
        m(batch).loss.backward()
        optimiser.step()
    assert diagonals[0] < 0.4
    assert diagonals[-1] > 0.8
