"""MoCo v2 against lightly's loss with a memory bank, v2 and v3 against their sums written out, and what follows an update."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from small import noise_batch, small_method

from medssl.methods.moco import Config, MoCoV2, MoCoV3, Settings, ctr, queue_loss, settings
from medssl.nn.losses import info_nce

REFERENCE = "lightly NTXentLoss with a memory bank (v2); algorithm 1 summed pair by pair (v3)"
FAULTS = {
    "query and key of one view": ("else [(x1, x2)]", "else [(x1, x1)]"),
    "keys of the query network": (
        "l2_normalize(self.key_projector(self.key_encoder(keys)))",
        "l2_normalize(self.projector(self.encoder(keys)))",
    ),
    "temperature dropped": ("negatives], dim=1) / tau", "negatives], dim=1)"),
    "pushed before looked at": ("        loss = queue_loss(", "        self.queue.push(Rows(k, tags))\n        loss = queue_loss("),
    "push forgotten": ("self.queue.push(step.push)", "pass"),
    "queries pushed": ("push=Rows(k, tags)", "push=Rows(q.detach(), tags)"),
    "moving average reversed": ("m = settings(self.config).momentum", "m = 1 - settings(self.config).momentum"),
    "queue not masked": ("self.queue.tags) if self.config.mask_same_patient", "self.queue.tags) if False"),
    "v3: pairs swapped": ("ctr(q1, k2, tau, excluded)", "ctr(q1, k1, tau, excluded)"),
    "v3: factor forgotten": ("return 2 * tau * info_nce", "return info_nce"),
    "v3: predictor skipped": ("self.predictor(self.projector(self.encoder(views)))", "self.projector(self.encoder(views))"),
    "v3: momentum stays": ("momentum_at(progress, settings(self.config).momentum)", "settings(self.config).momentum"),
}


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=1)


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moco(version: str = "v2", **options):
    """In float64, with a key network that has strayed from the query network."""
    m = small_method("moco", version=version, **options).double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for network in (m.key_encoder, m.key_projector):
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return m


@torch.no_grad()
def queries_and_keys(m, queries: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    head = m.projector(m.encoder(queries))
    return unit(m.predictor(head) if isinstance(m, MoCoV3) else head), unit(m.key_projector(m.key_encoder(keys)))


def summed(q: torch.Tensor, positive: torch.Tensor, negatives: Sequence[Iterable[torch.Tensor]], tau: float) -> torch.Tensor:
    """The mean of - log softmax, pair by pair; `negatives[i]`: the rows that repel query i."""

    def score(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)) / tau)

    total = 0.0
    for a, b, others in zip(q, positive, negatives, strict=True):
        total -= math.log(score(a, b) / (score(a, b) + sum(score(a, n) for n in others)))
    return torch.tensor(total / len(q), dtype=torch.float64)


def test_v2s_loss_equals_lightlys_with_a_memory_bank(agrees):
    q, k, queue = rows(5, 0), rows(5, 1), unit(rows(20, 2))
    reference = NTXentLoss(0.2, memory_bank_size=(20, 4))
    reference.memory_bank.bank = queue.clone()
    agrees(queue_loss(unit(q), unit(k), queue, 0.2), reference(q, k))


def test_v2s_loss_equals_the_sum_written_out_in_one_direction(agrees):
    m, batch = moco(temperature=0.3), noise_batch()
    q, k = queries_and_keys(m, batch.views[0], batch.views[1])
    agrees(m(batch).loss, summed(q, k, [m.queue.rows] * 6, 0.3))


def test_v2s_symmetric_loss_equals_the_sum_written_out_over_both(agrees):
    m, (x1, x2) = moco(symmetric=True), noise_batch().views
    q, k = queries_and_keys(m, torch.cat([x1, x2]), torch.cat([x2, x1]))
    step = m(noise_batch())
    agrees(step.loss, summed(q, k, [m.queue.rows] * 12, 0.2))
    agrees(step.push.values, k)
    assert step.push.tags[:, 0].tolist() == [*range(6), *range(6)]


@pytest.mark.parametrize("masked", [False, True])
def test_v3s_loss_equals_algorithm_1_written_out(agrees, masked):
    """Samples 0 and 1, 2 and 3, 4 and 5 are of one patient."""
    m, batch = moco("v3", temperature=0.3, mask_same_patient=masked), noise_batch()
    q, k = queries_and_keys(m, torch.cat(batch.views), torch.cat(batch.views))
    expected = 0.0
    for query, key in ((q[:6], k[6:]), (q[6:], k[:6])):
        others = [[key[j] for j in range(6) if j != i and not (masked and j // 2 == i // 2)] for i in range(6)]
        expected += 2 * 0.3 * summed(query, key, others, 0.3)
    agrees(m(batch).loss, expected)


def test_the_gradients_are_those_of_finite_differences():
    q, k = unit(rows(5, 0)).requires_grad_(), unit(rows(5, 1))
    excluded = torch.zeros(5, 20, dtype=torch.bool)
    excluded[0, :3] = True
    assert torch.autograd.gradcheck(lambda q: queue_loss(q, k, unit(rows(20, 2)), 0.2, excluded), q)
    assert torch.autograd.gradcheck(lambda q: ctr(q, k, 0.2, excluded[:, 3:8]), q)


def test_the_losses_of_equal_embeddings_are_those_of_chance(agrees):
    same = unit(rows(1, 0))
    agrees(queue_loss(same.expand(5, 4), same.expand(5, 4), same.expand(20, 4), 0.2), torch.tensor(math.log(21), dtype=torch.float64))
    agrees(ctr(same.expand(5, 4), same.expand(5, 4), 0.2), torch.tensor(0.4 * math.log(5), dtype=torch.float64))


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_the_query_network_alone_learns(version):
    m = small_method("moco", version=version)
    m(noise_batch()).loss.backward()
    learning = {name.split(".")[0] for name, parameter in m.named_parameters() if parameter.grad is not None}
    assert learning == {"encoder", "projector"} | ({"predictor"} if version == "v3" else set())
    assert all(parameter.grad is None for name, parameter in m.named_parameters() if name.startswith("key_"))


TARGETS = [("v2", 0.0, 0.9), ("v2", 1.0, 0.9), ("v3", 0.0, 0.9), ("v3", 0.5, 0.95), ("v3", 1.0, 1.0)]


@pytest.mark.parametrize(("version", "progress", "m"), TARGETS)
def test_the_key_network_follows_with_a_constant_share_in_v2_and_a_fading_one_in_v3(version, progress, m):
    method = moco(version, momentum=0.9)
    networks = [(method.encoder, method.key_encoder), (method.projector, method.key_projector)]
    before = [[p.clone() for p in key.parameters()] for _, key in networks]
    method.after_update(method(noise_batch()), progress)
    for (query, key), old in zip(networks, before, strict=True):
        for new, o, online in zip(key.parameters(), old, query.parameters(), strict=True):
            torch.testing.assert_close(new.detach(), m * o + (1 - m) * online.detach())


def test_the_queue_holds_the_latest_keys_of_the_second_views_once_the_update_is_done():
    m, pushed = moco(support_size=10, momentum=1.0), []
    for step in range(3):
        batch, before = noise_batch(step), m.queue.rows.clone()
        _, k = queries_and_keys(m, batch.views[0], batch.views[1])
        result = m(batch)
        assert torch.equal(m.queue.rows, before), "looked at before it is pushed"
        m.after_update(result, 0.5)
        pushed += k.unbind()
    expected = [*pushed[10:18], *pushed[8:10]]
    torch.testing.assert_close(m.queue.rows, torch.stack(expected))
    assert m.queue.tags[:, 0].tolist() == [*range(10, 18), 8, 9]


def test_keys_of_a_querys_patient_repel_no_more_where_they_are_masked(agrees):
    """The queue holds patients 0, 0, 1, 1, 2, 2 of the first batch; its other rows are of nobody. The same images come again."""
    m, batch = moco(support_size=8, mask_same_patient=True, momentum=1.0), noise_batch()
    q, k = queries_and_keys(m, *batch.views)
    agrees(m(batch).loss, summed(q, k, [m.queue.rows] * 6, 0.2))
    m.after_update(m(batch), 0.0)
    kept = [[n for j, n in enumerate(m.queue.rows) if j >= 6 or j // 2 != i // 2] for i in range(6)]
    assert [len(others) for others in kept] == [6] * 6
    agrees(m(batch).loss, summed(q, k, kept, 0.2))


def test_an_images_own_earlier_key_is_masked_where_no_patient_is_known(agrees):
    m, batch = moco(support_size=6, mask_same_patient=True, momentum=1.0), replace(noise_batch(), patients=None)
    q, k = queries_and_keys(m, *batch.views)
    m.after_update(m(batch), 0.0)
    kept = [[n for j, n in enumerate(m.queue.rows) if j != i] for i in range(6)]
    agrees(m(batch).loss, summed(q, k, kept, 0.2))


def test_the_gradients_size_hardly_depends_on_v3s_temperature():
    """For small similarities; InfoNCE's own gradient grows with 1 / tau."""

    def size(loss, tau: float) -> float:
        q = (0.01 * unit(rows(5, 0))).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(q, unit(rows(5, 1)), tau), q)
        return float(gradient.norm())

    assert size(ctr, 0.2) == pytest.approx(size(ctr, 1.0), rel=0.05)
    assert size(info_nce, 0.2) == pytest.approx(5 * size(info_nce, 1.0), rel=0.05)


def test_what_is_not_said_is_the_versions_default():
    assert settings(Config()) == Settings(0.999, 2048, 128)
    assert settings(Config(version="v3")) == Settings(0.99, 4096, 256)
    assert settings(Config(version="v3", momentum=0.0, width=64)) == Settings(0.0, 4096, 64)


def test_v2s_head_has_two_layers_and_v3s_three_and_two_each_normalised():
    def layers(head) -> list[str]:
        return [type(layer).__name__ for layer in head]

    v2, v3 = small_method("moco"), small_method("moco", version="v3")
    assert isinstance(v2, MoCoV2)
    assert layers(v2.projector) == ["Linear", "ReLU", "Linear"]
    assert layers(v3.projector) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert layers(v3.predictor) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
