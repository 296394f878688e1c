"""SimSiam against lightly's cosine similarity, and what stop-gradient and predictor do to its gradient."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity
from small import noise_batch, small_method
from torch import nn

from medssl.methods import simsiam
from medssl.nn.losses import l2_normalize

REFERENCE = "lightly NegativeCosineSimilarity"
FAULTS = {
    "stop-gradient forgotten": ("(p * z.detach())", "(p * z)"),
    "pairs swapped": ("d(p1, z2) + d(p2, z1)", "d(p1, z1) + d(p2, z2)"),
    "predictor left out": ("l2_normalize(self.predictor(z))", "l2_normalize(z)"),
    "projections not normalised over the batch": ("config.hidden], last_norm=True)", "config.hidden])"),
    "views pushed apart": ("return -(p * z", "return (p * z"),
}


def rows(number: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(5, 7, generator=random, dtype=torch.float64) for _ in range(number)]


def reference(p1, p2, z1, z2) -> torch.Tensor:
    cosine = NegativeCosineSimilarity()
    return (cosine(p1, z2) + cosine(p2, z1)) / 2


def embedded(m, batch):
    """p1, p2, z1, z2 before they are scaled to unit length."""
    z = m.projector(m.encoder(torch.cat(batch.views)))
    return *m.predictor(z).chunk(2), *z.chunk(2)


def gradient(loss: torch.Tensor, m) -> torch.Tensor:
    return torch.autograd.grad(loss, m.projector[0].weight)[0]


def test_the_loss_equals_lightlys_for_rows_of_any_length(agrees):
    raw = rows(4)
    agrees(simsiam.simsiam_loss(*map(l2_normalize, raw)), reference(*raw))


def test_the_loss_of_a_batch_equals_lightlys_on_predictions_and_projections(agrees):
    m, batch = small_method("simsiam").double(), noise_batch()
    found = m(batch)
    with torch.no_grad():
        p1, p2, z1, z2 = embedded(m, batch)
    agrees(found.loss, reference(p1, p2, z1, z2))
    agrees(found.embeddings[0], F.normalize(z1, dim=1))


def test_equal_rows_give_minus_1_orthogonal_ones_0_and_opposite_ones_1(agrees):
    e1, e2 = (F.one_hot(torch.full((3,), i), 4).double() for i in (0, 1))
    for p, z, expected in ((e1, e1, -1), (e1, e2, 0), (e1, -e1, 1)):
        agrees(simsiam.simsiam_loss(p, p, z, z), torch.tensor(expected).double())


def test_the_losss_gradient_is_its_derivative_by_the_predictions_and_none_enters_the_projections():
    p1, p2, z1, z2 = rows(4)
    assert torch.autograd.gradcheck(simsiam.simsiam_loss, (p1.requires_grad_(), p2.requires_grad_(), z1, z2))
    simsiam.simsiam_loss(p1, p2, z1.requires_grad_(), z2.requires_grad_()).backward()
    assert z1.grad is None
    assert z2.grad is None


def test_the_encoders_gradient_is_the_one_with_the_stop_gradient(agrees):
    m, batch = small_method("simsiam").double(), noise_batch()
    p1, p2, z1, z2 = embedded(m, batch)
    stopped = gradient(reference(p1, p2, z1.detach(), z2.detach()), m)
    through = gradient(reference(*embedded(m, batch)), m)
    agrees(gradient(m(batch).loss, m), stopped)
    assert (stopped - through).norm() > 0.1 * through.norm()


def test_without_a_predictor_the_stop_gradient_would_only_halve_the_gradient(agrees):
    """Section 4.2: why the predictor is needed. With one, the gradient is no multiple of the other."""
    m, batch = small_method("simsiam").double(), noise_batch()
    with_predictor = gradient(m(batch).loss, m)
    m.predictor = nn.Identity()
    through = gradient(reference(*embedded(m, batch)), m)
    agrees(gradient(m(batch).loss, m), through / 2)
    assert F.cosine_similarity(with_predictor.flatten(), through.flatten(), dim=0) < 0.9


def test_neither_the_order_of_the_batch_nor_the_length_of_predictions_changes_the_loss(agrees):
    m, batch = small_method("simsiam").double(), noise_batch()
    expected = m(batch).loss
    agrees(m(replace(batch, views=tuple(view.flip(0) for view in batch.views))).loss, expected)
    with torch.no_grad():
        for parameter in m.predictor[-1].parameters():
            parameter *= 3
    agrees(m(batch).loss, expected)


def test_projections_have_mean_0_and_variance_1_over_both_views(agrees):
    m, batch = small_method("simsiam").double(), noise_batch(size=32)
    z = m.projector(m.encoder(torch.cat(batch.views)))
    agrees(z.mean(dim=0), torch.zeros(32, dtype=torch.float64))
    torch.testing.assert_close(z.var(dim=0, correction=0), torch.ones(32, dtype=torch.float64), rtol=0, atol=0.05)


def test_without_options_the_heads_are_the_papers():
    """Section 3, baseline settings: three layers of 2048, and down to 512 and back."""
    m = simsiam.build(simsiam.Config(), small_method("simsiam").encoder)
    norm, linear, relu = nn.BatchNorm1d, nn.Linear, nn.ReLU
    assert [type(layer) for layer in m.projector] == [linear, norm, relu, linear, norm, relu, linear, norm]
    assert [layer.out_features for layer in m.projector if isinstance(layer, linear)] == [2048, 2048, 2048]
    assert [type(layer) for layer in m.predictor] == [linear, norm, relu, linear]
    assert [m.predictor[0].weight.shape, m.predictor[3].weight.shape] == [(512, 2048), (2048, 512)]
