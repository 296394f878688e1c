"""VICReg against lightly's loss and against eq. 1 to 6 written out, in float64, and each term where its value is known."""

import math

import pytest
import torch
from lightly.loss import VICRegLoss
from small import noise_batch, small_method

from medssl.methods.vicreg import c, v, vicreg_loss

REFERENCE = "eq. 1 to 6 written out; lightly VICRegLoss with twice the weight of the variance, because lightly halves the variance"
FAULTS = {
    "variance for standard deviation": ("torch.sqrt(Z.var(dim=0) + EPS)", "Z.var(dim=0)"),
    "no hinge": ("F.relu(1 - torch.sqrt(Z.var(dim=0) + EPS)).mean()", "(1 - torch.sqrt(Z.var(dim=0) + EPS)).mean()"),
    "not centred": ("centred = Z - Z.mean(dim=0)", "centred = Z"),
    "variances among the covariances": (" - C.diagonal().square().sum()", ""),
    "covariance not divided by d": ("C.diagonal().square().sum()) / d", "C.diagonal().square().sum())"),
    "halved as in the authors' code": ("mu * (v(Z1) + v(Z2))", "mu * (v(Z1) + v(Z2)) / 2"),
    "weights swapped": ("self.config.variance, self.config.covariance", "self.config.covariance, self.config.variance"),
    "unit rows": ("map(gather, to_float32(z).chunk(2))", "map(gather, l2_normalize(z).chunk(2))"),
    "covariance in bfloat16": ("@no_autocast\n", ""),
}
WEIGHTS = (25.0, 25.0, 1.0)  # the paper's


def embeddings(n: int = 12, d: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views, not centred, some columns of a standard deviation above 1 and some below."""
    random = torch.Generator().manual_seed(1)
    shared, *own = torch.randn(3, n, d, generator=random, dtype=torch.float64)
    scale = torch.linspace(0.2, 2, d, dtype=torch.float64)
    Z1, Z2 = (3 + scale * (shared + 0.5 * noise) for noise in own)
    return Z1, Z2


def written_out(Z1: torch.Tensor, Z2: torch.Tensor, lambda_: float, mu: float, nu: float) -> torch.Tensor:
    """Eq. 6, number by number."""
    n, d = Z1.shape
    s = sum((float(Z1[i, j]) - float(Z2[i, j])) ** 2 for i in range(n) for j in range(d)) / n / d
    loss = lambda_ * s
    for Z in (Z1, Z2):
        columns = [[float(x) for x in column] for column in Z.T]
        means = [sum(column) / n for column in columns]

        def covariance(i: int, j: int, columns=columns, means=means) -> float:
            return sum((x - means[i]) * (y - means[j]) for x, y in zip(columns[i], columns[j], strict=True)) / (n - 1)

        loss += mu * sum(max(0.0, 1 - math.sqrt(covariance(j, j) + 1e-4)) for j in range(d)) / d
        loss += nu * sum(covariance(i, j) ** 2 for i in range(d) for j in range(d) if i != j) / d
    return torch.tensor(loss, dtype=torch.float64)


@pytest.mark.parametrize("weights", [WEIGHTS, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_loss_is_eq_6_written_out_as_a_whole_and_term_by_term(agrees, weights):
    agrees(vicreg_loss(*embeddings(), *weights), written_out(*embeddings(), *weights))


def test_the_loss_is_lightlys_where_its_halved_variance_has_twice_the_weight(agrees):
    Z1, Z2 = embeddings()
    agrees(vicreg_loss(Z1, Z2, *WEIGHTS), VICRegLoss(lambda_param=25, mu_param=50, nu_param=1)(Z1, Z2))
    agrees(vicreg_loss(Z1, Z2, 25.0, 12.5, 1.0), VICRegLoss()(Z1, Z2))


def test_the_methods_loss_is_that_of_its_embeddings(agrees):
    m, batch = small_method("vicreg").double(), noise_batch()
    found = m(batch).loss
    with torch.no_grad():
        Z1, Z2 = m.expander(m.encoder(torch.cat(batch.views))).chunk(2)
    agrees(found, written_out(Z1, Z2, *WEIGHTS))
    agrees(found, VICRegLoss(mu_param=50)(Z1, Z2))
    other = small_method("vicreg", invariance=2, variance=3, covariance=4).double()
    agrees(other(batch).loss, written_out(Z1, Z2, 2, 3, 4))


def test_the_gradient_is_that_of_finite_differences():
    Z1, Z2 = (Z.requires_grad_() for Z in embeddings(5, 3))
    assert torch.autograd.gradcheck(lambda a, b: vicreg_loss(a, b, *WEIGHTS), (Z1, Z2))


def test_permuting_the_batch_or_shifting_both_views_leaves_the_loss():
    Z1, Z2 = embeddings()
    expected = vicreg_loss(Z1, Z2, *WEIGHTS)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vicreg_loss(Z1[order], Z2[order], *WEIGHTS), expected)
    torch.testing.assert_close(vicreg_loss(Z1 + 7, Z2 + 7, *WEIGHTS), expected)
    assert vicreg_loss(Z1[order], Z2, *WEIGHTS) > expected, "the pairs count"


def test_v_is_0_from_a_standard_deviation_of_1_on_and_nearly_1_for_a_point():
    """The columns of a Hadamard matrix but the constant one have variance 8 / 7."""
    h = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    Z = torch.kron(torch.kron(h, h), h)[:, 1:]
    assert float(v(Z)) == 0
    assert float(v(10 * Z)) == 0
    assert abs(float(v(0.5 * Z)) - (1 - math.sqrt(2 / 7 + 1e-4))) < 1e-12
    assert abs(float(v(torch.full_like(Z, 3.0))) - 0.99) < 1e-12
    assert abs(float(c(Z))) < 1e-12, "orthogonal columns"
    assert abs(float(c(Z[:, :1].expand(8, 7))) - 6 * (8 / 7) ** 2) < 1e-12, "all dimensions say the same: 7 * 6 covariances over d = 7"


def test_a_batch_that_is_one_point_has_a_finite_gradient():
    Z = torch.ones(6, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(vicreg_loss(Z, Z, *WEIGHTS), Z)
    assert torch.isfinite(gradient).all()


def test_autocast_does_not_round_the_covariance():
    Z = embeddings(64, 16)[0].float()
    with torch.autocast("cpu", torch.bfloat16):
        found = c(Z)
    torch.testing.assert_close(found, c(Z.double()).float(), rtol=1e-5, atol=1e-6)


def trained(**options) -> tuple[float, float]:
    """By which factors ten steps on one batch change the standard deviation of the embeddings and the distance of the views."""
    m, batch = small_method("vicreg", **options), noise_batch(size=12)
    optimiser = torch.optim.AdamW(m.parameters(), lr=3e-3)

    def measured() -> tuple[float, float]:
        with torch.no_grad():
            Z1, Z2 = m.expander(m.encoder(torch.cat(batch.views))).chunk(2)
        return float(Z1.std(dim=0).mean()), float((Z1 - Z2).square().mean())

    before = measured()
    for _ in range(10):
        optimiser.zero_grad()
        m(batch).loss.backward()
        optimiser.step()
    spread, apart = (now / then for now, then in zip(measured(), before, strict=True))
    return spread, apart


def test_training_brings_the_views_together_and_spreads_the_images_which_without_the_variance_move_together():
    spread, apart = trained()
    assert spread > 1.5
    assert apart < 0.4
    spread, apart = trained(variance=0)
    assert spread < 0.8
    assert apart < 0.4
