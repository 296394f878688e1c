"""BYOL against lightly's cosine similarity, and its target network against its average by hand."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity
from small import noise_batch, small_method, train
from torch import nn

from medssl.methods import byol
from medssl.nn.losses import l2_normalize

REFERENCE = "lightly NegativeCosineSimilarity"
FAULTS = {
    "pairs swapped": ("distance(q1, t2) + distance(q2, t1)", "distance(q1, t1) + distance(q2, t2)"),
    "predictor left out": ("l2_normalize(self.predictor(z))", "l2_normalize(z)"),
    "the online network its own target": ("self.target_projector(self.target_encoder(views))", "self.projector(self.encoder(views))"),
    "target projector stands still": ("update_target(self.target_projector, self.projector, tau)", "pass"),
    "momentum does not rise": ("tau = momentum_at(progress, self.config.momentum)", "tau = self.config.momentum"),
    "moving average reversed": ("nn/target.py", "list(online.parameters()), 1 - m)", "list(online.parameters()), m)"),
}


def rows(number: int, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 7, generator=random, dtype=torch.float64) for _ in range(number)]


def apart(**options):
    """A method in float64 whose online network has left its target."""
    method = small_method("byol", **options)
    train(method, steps=2, lr=0.1)
    return method.double()


def reference(q1, q2, t1, t2) -> torch.Tensor:
    cosine = NegativeCosineSimilarity()
    return 2 + 2 * cosine(q1, t2) + 2 + 2 * cosine(q2, t1)


def test_the_loss_equals_lightlys_for_rows_of_any_length(agrees):
    raw = rows(4)
    agrees(byol.byol_loss(*map(l2_normalize, raw)), reference(*raw))


def test_the_loss_of_a_batch_equals_lightlys_on_predictions_and_target_projections(agrees):
    m, batch = apart(), noise_batch()
    found = m(batch)
    views = torch.cat(batch.views)
    with torch.no_grad():
        z = m.projector(m.encoder(views))
        targets = m.target_projector(m.target_encoder(views))
    agrees(found.loss, reference(*m.predictor(z).detach().chunk(2), *targets.chunk(2)))
    agrees(torch.cat(found.embeddings), F.normalize(z, dim=1))


def test_equal_rows_give_0_orthogonal_ones_4_and_opposite_ones_8(agrees):
    e1, e2 = (F.one_hot(torch.full((3,), i), 4).double() for i in (0, 1))
    for q, t, expected in ((e1, e1, 0), (e1, e2, 4), (e1, -e1, 8)):
        agrees(byol.byol_loss(q, q, t, t), torch.tensor(expected).double())


def test_the_losss_gradient_is_its_derivative():
    q1, q2, t1, t2 = rows(4)
    assert torch.autograd.gradcheck(byol.byol_loss, (q1.requires_grad_(), q2.requires_grad_(), t1, t2))


def test_gradient_enters_every_online_weight_and_none_of_the_target():
    m = apart()
    m(noise_batch()).loss.backward()
    for name, parameter in m.named_parameters():
        assert (parameter.grad is None) == name.startswith("target_"), name


def test_neither_the_order_of_the_batch_nor_the_length_of_predictions_changes_the_loss(agrees):
    m, batch = apart(), noise_batch()
    expected = m(batch).loss
    agrees(m(replace(batch, views=tuple(view.flip(0) for view in batch.views))).loss, expected)
    with torch.no_grad():
        for parameter in m.predictor[-1].parameters():
            parameter *= 3
    agrees(m(batch).loss, expected)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.1), (0.5, 0.05), (1.0, 0.0)])
def test_the_target_follows_by_a_share_that_falls_to_nothing(agrees, progress, share):
    """momentum 0.9: 1 - tau is 0.1 at first, by half a cosine 0.05 half way, and 0 at the end."""
    m = apart(momentum=0.9)
    before = copy.deepcopy(m)
    m.after_update(m(noise_batch()), progress)
    for part in ("encoder", "projector"):
        old, new = (list(getattr(state, f"target_{part}").parameters()) for state in (before, m))
        online = list(getattr(m, part).parameters())
        assert any(not torch.equal(o, w) for o, w in zip(old, online, strict=True)), "the networks are apart"
        for o, n, w in zip(old, new, online, strict=True):
            agrees(n, o + share * (w - o))


def test_without_options_the_heads_are_the_papers():
    """Section 3.3: linear to 4096, batch norm, ReLU, linear to 256."""
    m = byol.build(byol.Config(), small_method("byol").encoder)
    for head, width in ((m.projector, m.encoder.num_features), (m.predictor, 256)):
        assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
        assert [layer.weight.shape for layer in (head[0], head[3])] == [(4096, width), (256, 4096)]
        assert head[3].bias is not None
