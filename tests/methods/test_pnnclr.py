"""pNNCLR against the authors' numbers, against float64 sums written out by hand, and against the limit in which it is NNCLR."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import noise_batch, shallow_encoder, small_method, train

from medssl.methods import pnnclr, pnnclr_paper
from medssl.nn.randomness import generator
from medssl.nn.support_set import SupportSet

CASES = ("default", "alpha_half", "plain_nn", "alpha_085")
REFERENCE = "the authors' code (golden values, float32); the sum written out; NNCLR, its limit"
SUPPORT, TARGET, LOSSES = "nn/support_set.py", "nn/target.py", "nn/losses.py"
FAULTS = {
    "pairs swapped": ("first, found = pair_loss(p1, t2,", "first, found = pair_loss(p1, t1,"),
    "moving average reversed": (TARGET, "list(online.parameters()), 1 - m)", "list(online.parameters()), m)"),
    "temperature dropped": (LOSSES, "u @ v.T / tau", "u @ v.T"),
    "push forgotten": ("self.support.push(step.push)", "pass"),
    "pushed before looked up": ("    first, found = pair_loss(", "    Q.push(Rows(t2, tags))\n    first, found = pair_loss("),
    "farthest row for the nearest": (SUPPORT, "scores.topk(k, dim=1)", "scores.topk(k, dim=1, largest=False)"),
    "pseudo neighbour not of unit length": ("l2_normalize(pnn) if config.renormalise else pnn", "pnn"),
    "gradient into the target": ("(found.pnn.detach() if config.stop_gradient else found.pnn)", "found.pnn"),
    "alpha from the neighbour's side": ("way = alpha * (nn_x - x)", "way = (1 - alpha) * (nn_x - x)"),
    "predictions pushed for targets": ("Rows(t1.detach(), tags)", "Rows(p1.detach(), tags)"),
    "ring that stands still": (SUPPORT, "(self.pushed + torch.arange", "(0 * self.pushed + torch.arange"),
    "negatives of one view under SimCLR's heads": ('same_view=b if config.base == "simclr" else None', "same_view=None"),
    "the image itself among its negatives": (LOSSES, "masked = itself if", "masked = itself & ~itself if"),
    "one noise for every step": ("batch.seed, batch.step,", "batch.seed,"),
    "one alpha for all rows": ("torch.rand(n, 1,", "torch.rand(1, 1,"),
    "neighbours trusted at once": ("pnn = x + share * way", "pnn = x + way"),
    "delay forgotten": ("passed = progress - config.delay", "passed = progress"),
    "progress stands still": ("self.progress.fill_(progress)", "pass"),
    "same patients kept as negatives": ("mask_same_patient=config.mask_same_patient", "mask_same_patient=False"),
}


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=1)


def random_unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def tags(n: int) -> torch.Tensor:
    """Of n images of n patients, without labels."""
    return torch.stack([torch.arange(n), torch.arange(n), torch.full((n,), -1), torch.zeros(n, dtype=torch.int64)], dim=1)


def holding(Q: torch.Tensor) -> SupportSet:
    """A support set of these rows, the oldest first."""
    support = SupportSet(len(Q), Q.shape[1]).to(Q.dtype)
    support.rows.copy_(Q)
    return support


def drawn_for(x: torch.Tensor, config: pnnclr.Config) -> tuple[pnnclr.Drawn, ...]:
    return pnnclr.draw(config, generator(0), (len(x), x.shape[1]), x)


def pseudo(z: torch.Tensor, Q: torch.Tensor, **options) -> torch.Tensor:
    config = pnnclr.Config(**options)
    return pnnclr.pseudo_neighbour(z, tags(len(z)), holding(Q), config, drawn_for(z, config)[0]).pnn


@pytest.fixture(scope="module")
def golden(repository):
    return np.load(repository / "tests" / "golden" / "pnnclr_reference.npz")


@pytest.mark.parametrize("case", CASES)
def test_the_paper_preset_gives_the_authors_loss_gradients_queue_and_pseudo_neighbours(golden, case):
    values = {key.split("/")[1]: torch.from_numpy(golden[key]) for key in golden.files if key.startswith(f"{case}/")}
    config = pnnclr_paper.Config(alpha=float(values["alpha"]), temperature=float(values["temperature"]))
    p1, p2 = values["p1"].requires_grad_(), values["p2"].requires_grad_()
    support = holding(values["queue_before"].flip(0))  # the file has the newest row first
    size, of = len(support.rows), tags(len(p1))
    step = pnnclr.pnnclr_loss(unit(p1), unit(p2), unit(values["t1"]), unit(values["t2"]), of, support, config, drawn_for(p1, config))
    step.loss.backward()
    between = pnnclr.pseudo_neighbour(unit(p1.detach()), of, support, config, drawn_for(p1, config)[0]).pnn
    assert step.push is not None
    support.push(step.push)
    newest_first = support.rows[(int(support.pushed) - 1 - torch.arange(size)) % size]
    for found, name in (
        (step.loss.detach(), "loss"),
        (p1.grad, "grad_p1"),
        (p2.grad, "grad_p2"),
        (newest_first, "queue_after"),
        (between, "pnn_of_p1"),
    ):
        torch.testing.assert_close(found, values[name], rtol=1e-5, atol=1e-5)


def test_the_default_loss_equals_the_sum_written_out_in_float64(agrees):
    p1, p2, t1, t2, Q = (random_unit(n, 8, seed=i) for i, n in enumerate((5, 5, 5, 5, 20)))
    alpha, tau = 0.7, 0.2

    def one_side(p: np.ndarray, t: np.ndarray, rows: np.ndarray) -> float:
        total = 0.0
        for i in range(5):
            nn = max(rows, key=lambda row: row @ t[i])
            y = t[i] + alpha * (nn - t[i])
            y /= np.sqrt(y @ y)
            scores = [np.exp(y @ p[k] / tau) for k in range(5)]
            total -= np.log(scores[i] / sum(scores))
        return total / 5

    expected = (one_side(p1.numpy(), t2.numpy(), Q.numpy()) + one_side(p2.numpy(), t1.numpy(), Q.numpy())) / 2
    config = pnnclr.Config(alpha=alpha, noise=0, temperature=tau)
    step = pnnclr.pnnclr_loss(p1, p2, t1, t2, tags(5), holding(Q), config, drawn_for(p1, config))
    agrees(step.loss, torch.tensor(expected, dtype=torch.float64))
    assert step.push is not None
    assert torch.equal(step.push.values, t1), "the target projections of view 1 are pushed"


@pytest.mark.parametrize("options", [{}, {"terms": 4, "renormalise": False}])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(options):
    Q, config = holding(random_unit(10, 6, seed=3)), pnnclr.Config(temperature=0.3, **options)

    def loss(p1: torch.Tensor, p2: torch.Tensor, t1: torch.Tensor, t2: torch.Tensor) -> torch.Tensor:
        return pnnclr.pnnclr_loss(unit(p1), unit(p2), unit(t1), unit(t2), tags(4), Q, config, drawn_for(p1, config), 0.4).loss

    raw = [torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in (4, 5, 6, 7)]
    assert torch.autograd.gradcheck(loss, raw), "into predictions and, through pseudo neighbours, into projections"


def test_with_alpha_one_no_noise_and_momentum_zero_it_is_nnclr(agrees):
    ours = small_method("pnnclr", shallow_encoder(), alpha=1.0, noise=0.0, momentum=0.0, base="nnclr", delay=0.0, ramp=0.0).double()
    theirs = small_method("nnclr", shallow_encoder()).double()
    theirs.load_state_dict({key: value for key, value in ours.state_dict().items() if key != "progress"})
    found, expected = (torch.tensor(train(m, 4, progress=0.0), dtype=torch.float64) for m in (ours, theirs))
    agrees(found, expected)
    agrees(ours.support.rows, theirs.support.rows)
    assert torch.equal(ours.support.tags, theirs.support.tags)


def test_while_neighbours_are_delayed_the_other_view_itself_is_the_positive(agrees):
    p1, p2, t1, t2 = (random_unit(5, 8, seed=i) for i in range(4))
    config = pnnclr.Config(delay=0.25, ramp=0.5, temperature=0.2)
    share = pnnclr.share_at(torch.tensor(0.25), config)
    step = pnnclr.pnnclr_loss(p1, p2, t1, t2, tags(5), holding(random_unit(20, 8, seed=9)), config, drawn_for(p1, config), share)
    scores = [(t.numpy() @ p.numpy().T) / 0.2 for t, p in ((t2, p1), (t1, p2))]
    expected = np.mean([np.log(np.exp(s).sum(axis=1)) - np.diag(s) for s in scores])
    agrees(step.loss, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("progress", "delay", "ramp", "share"),
    [(0.0, 0, 0, 1), (0.19, 0.2, 0.6, 0), (0.5, 0.2, 0.6, 0.5), (0.8, 0.2, 0.6, 1), (1.0, 0.2, 0.6, 1), (0.4, 0.5, 0, 0), (0.5, 0.5, 0, 1)],
)
def test_trust_in_neighbours_starts_after_the_delay_and_grows_over_the_ramp(progress, delay, ramp, share):
    found = pnnclr.share_at(torch.tensor(progress), pnnclr.Config(delay=delay, ramp=ramp))
    torch.testing.assert_close(found, torch.tensor(float(share)), atol=1e-6, rtol=0)


def test_the_method_follows_the_progress_of_the_training_and_its_checkpoint_knows_it():
    m = small_method("pnnclr", delay=0.5, ramp=0.25)
    train(m, 1, progress=0.625)
    assert float(pnnclr.share_at(m.state_dict()["progress"], m.config)) == 0.5
    lookup = m(noise_batch()).lookup
    cosine = (lookup.pnn * lookup.z).sum(1), (lookup.nn * lookup.z).sum(1)
    assert (cosine[0] > cosine[1]).all(), "half way at most"


def test_with_the_base_simclr_pseudo_neighbours_are_pushed_away_from_the_others_of_both_views(agrees):
    """One side written out: the positive of pseudo neighbour i is row i of the other view, and 2 B - 2 rows are negatives."""
    t1, t2, Q = (random_unit(5, 8, seed=i) for i in range(3))
    config = pnnclr.Config(base="simclr", noise=0, temperature=0.2)
    drawn = drawn_for(t1, config)
    expected = 0.0
    for of, other, one in ((t2, t1, drawn[0]), (t1, t2, drawn[1])):
        pnn = pnnclr.pseudo_neighbour(of, tags(5), holding(Q), config, one).pnn.numpy()
        for i in range(5):
            negatives = [*(pnn[i] @ other[k].numpy() for k in range(5)), *(pnn[i] @ of[k].numpy() for k in range(5) if k != i)]
            expected += (np.log(np.exp(np.array(negatives) / 0.2).sum()) - negatives[i] / 0.2) / 10
    step = pnnclr.pnnclr_loss(t1, t2, t1, t2, tags(5), holding(Q), config, drawn)
    agrees(step.loss, torch.tensor(expected, dtype=torch.float64))


def test_no_gradient_enters_the_target_network():
    m = small_method("pnnclr", momentum=0.9)
    m(noise_batch()).loss.backward()
    assert all(p.grad is None for name, p in m.named_parameters() if name.startswith("target_"))
    assert all(p.grad is not None for name, p in m.named_parameters() if not name.startswith("target_"))


@pytest.mark.parametrize("stop", [False, True])
def test_gradient_flows_through_the_positives_unless_it_is_stopped_and_never_through_a_hard_neighbour(stop):
    t, p = random_unit(4, 8).requires_grad_(), random_unit(4, 8, seed=1).requires_grad_()
    Q, config = holding(random_unit(10, 8)), pnnclr.Config(stop_gradient=stop, noise=0)

    def gradients(alpha: float) -> list[torch.Tensor | None]:
        loss = pnnclr.pair_loss(p, t, tags(4), Q, config.model_copy(update={"alpha": alpha}), drawn_for(p, config))[0]
        return list(torch.autograd.grad(loss, (t, p), allow_unused=True))

    of_t, of_p = gradients(0.5)
    assert of_p is not None and (of_t is None) == stop
    if not stop:
        of_t = gradients(1.0)[0]
        assert of_t is not None and float(of_t.abs().max()) < 1e-12, "with alpha 1 the positive is the row of Q alone"


def test_a_forward_pass_changes_neither_support_set_nor_target():
    m = small_method("pnnclr")
    before = {key: value.clone() for key, value in m.state_dict().items() if "support" in key or "target" in key}
    m(noise_batch())
    after = m.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if key in dict(m.named_parameters()) or "support" in key)


def test_after_the_update_the_target_has_moved_towards_the_online_network_by_one_minus_m():
    m = small_method("pnnclr", momentum=0.9)
    with torch.no_grad():
        for p in m.encoder.parameters():
            p.add_(1.0)
    target = [p.clone() for p in m.target_encoder.parameters()]
    m.after_update(m(noise_batch()), progress=0.0)
    for before, now, online in zip(target, m.target_encoder.parameters(), m.encoder.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * before + 0.1 * online, rtol=1e-5, atol=1e-6)


def test_the_rows_pushed_are_the_target_projections_of_the_first_view_with_their_tags():
    m, batch = small_method("pnnclr"), noise_batch()
    with torch.no_grad():
        for p in m.target_encoder.parameters():
            p.mul_(1.1)  # not the online network any more
        t1 = unit(m.target_projector(m.target_encoder(torch.cat(batch.views)))).chunk(2)[0]
    m.after_update(m(batch), 0.0)
    torch.testing.assert_close(m.support.rows[:6], t1, rtol=1e-5, atol=1e-6)
    m.after_update(m(noise_batch(1)), 0.0)
    torch.testing.assert_close(m.support.rows[:6], t1, rtol=1e-5, atol=1e-6)
    assert int(m.support.pushed) == 12
    assert m.support.tags[:6].tolist() == [[i, i // 2, i % 3, 0] for i in range(6)]


def test_a_patients_other_images_are_no_negatives_where_they_are_masked(agrees):
    """Written out for one side: the denominator of sample i without the other image of its patient."""
    p1, p2, t1, t2, Q = (random_unit(6, 8, seed=i) for i in range(5))
    of = tags(6)
    of[:, 1] = torch.arange(6) // 2
    config = pnnclr.Config(alpha=1.0, noise=0, mask_same_patient=True)
    expected = 0.0
    for p, t in ((p1, t2), (p2, t1)):
        scores = np.asarray(Q[(t @ Q.T).argmax(dim=1)] @ p.T) / 0.1
        for i in range(6):
            kept = [k for k in range(6) if k == i or k // 2 != i // 2]
            expected += (np.log(np.exp(scores[i, kept]).sum()) - scores[i, i]) / 12
    step = pnnclr.pnnclr_loss(p1, p2, t1, t2, of, holding(Q), config, drawn_for(p1, config))
    agrees(step.loss, torch.tensor(expected, dtype=torch.float64))


def test_pseudo_neighbours_lie_between_the_embedding_and_its_hard_neighbour():
    z, Q = random_unit(50, 16, seed=1), random_unit(80, 16, seed=2)
    nn = Q[(z @ Q.T).argmax(dim=1)]
    between = pseudo(z, Q, alpha=0.5, noise=0)
    assert ((between * z).sum(1) > (nn * z).sum(1)).all()
    torch.testing.assert_close((between * z).sum(1), (between * nn).sum(1))
    torch.testing.assert_close(between.norm(dim=1), torch.ones(50, dtype=torch.float64))


def test_each_row_draws_its_own_alpha_from_the_range():
    z, Q = random_unit(200, 16, seed=1), random_unit(80, 16, seed=2)
    nn = Q[(z @ Q.T).argmax(dim=1)]
    y = pseudo(z, Q, alpha=(0.2, 0.6), noise=0, renormalise=False)
    alpha = ((y - z) / (nn - z)).median(dim=1).values
    assert 0.2 <= float(alpha.min()) < 0.25
    assert 0.55 < float(alpha.max()) <= 0.6


def test_noise_moves_a_pseudo_neighbour_by_sigma_radians():
    z = random_unit(2000, 128)
    angle = torch.acos((pseudo(z, z, alpha=0.0, noise=0.1) * z).sum(1).clamp(-1, 1))
    assert abs(float(angle.pow(2).mean().sqrt()) - 0.1) < 0.005


def test_top_k_takes_each_of_the_k_closest_rows_and_no_other():
    z, Q = random_unit(1, 8).repeat(300, 1), random_unit(30, 8, seed=1)
    chosen = set((pseudo(z, Q, alpha=1.0, noise=0, top_k=3) @ Q.T).argmax(dim=1).tolist())
    assert chosen == set((z[0] @ Q.T).topk(3).indices.tolist())


def test_the_same_seed_and_step_give_the_same_noise_and_another_step_another():
    m, batch = small_method("pnnclr", noise=0.3, delay=0.0, ramp=0.0), noise_batch()
    same = [float(m(batch).loss.detach()) for _ in range(2)]
    later = type(batch)(batch.views, batch.rows, step=1, seed=0)
    assert same[0] == same[1] != float(m(later).loss.detach())
