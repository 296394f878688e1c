"""pNNCLR against the authors' numbers, against float64 sums written out by hand, and against the limit in which it is NNCLR."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medssl.methods import pnnclr, pnnclr_paper
from medssl.nn.randomness import generator
from medssl.nn.support_set import SupportSet
from medssl.types import Batch

CASES = ("default", "alpha_half", "plain_nn", "alpha_085")


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=1)


@pytest.fixture(scope="module")
def golden(repository):
    return np.load(repository / "tests" / "golden" / "pnnclr_reference.npz")


@pytest.mark.parametrize("case", CASES)
def test_the_paper_preset_gives_the_authors_loss_gradients_queue_and_pseudo_neighbours(golden, case):
    values = {key.split("/")[1]: torch.from_numpy(golden[key]) for key in golden.files if key.startswith(f"{case}/")}
    config = pnnclr_paper.Config(alpha=float(values["alpha"]), temperature=float(values["temperature"]))
    p1, p2 = values["p1"].requires_grad_(), values["p2"].requires_grad_()
    support = SupportSet(len(values["queue_before"]), values["queue_before"].shape[1])
    support.rows.copy_(values["queue_before"].flip(0))  # the file has the newest row first
    random = generator("cpu", 0)
    loss, push = pnnclr.pnnclr_loss(unit(p1), unit(p2), unit(values["t1"]), unit(values["t2"]), support.newest_first(), config, random)
    loss.backward()
    support.push(push)
    pseudo = pnnclr.pseudo_neighbour(unit(p1.detach()), values["queue_before"], config, random)
    torch.testing.assert_close(loss.detach(), values["loss"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p1.grad, values["grad_p1"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p2.grad, values["grad_p2"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(support.newest_first(), values["queue_after"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pseudo, values["pnn_of_p1"], rtol=1e-5, atol=1e-5)


def test_the_default_loss_equals_the_sum_written_out_in_float64():
    rng = np.random.default_rng(0)
    p1, p2, t1, t2, Q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rng.normal(size=(n, 8)) for n in (5, 5, 5, 5, 20)))
    alpha, tau = 0.7, 0.2

    def one_side(p: np.ndarray, t: np.ndarray) -> float:
        total = 0.0
        for i in range(5):
            nn = max(Q, key=lambda row: row @ t[i])
            y = t[i] + alpha * (nn - t[i])
            y /= np.sqrt(y @ y)
            scores = [np.exp(y @ p[k] / tau) for k in range(5)]
            total -= np.log(scores[i] / sum(scores))
        return total / 5

    expected = (one_side(p1, t2) + one_side(p2, t1)) / 2
    config = pnnclr.Config(alpha=alpha, noise=0, temperature=tau)
    a, b, c, d, rows = (torch.from_numpy(v) for v in (p1, p2, t1, t2, Q))
    loss, push = pnnclr.pnnclr_loss(a, b, c, d, rows, config, generator("cpu", 0))
    assert loss.dtype == torch.float64
    assert abs(float(loss) - expected) < 1e-12
    assert torch.equal(push, c), "the target projections of view 1 are pushed"


def test_with_alpha_one_no_noise_and_momentum_zero_it_is_nnclr(make_method, make_batch):
    ours = make_method("pnnclr", alpha=1.0, noise=0.0, momentum=0.0)
    theirs = make_method("nnclr")
    theirs.load_state_dict({key: value for key, value in ours.state_dict().items() if not key.startswith("target_")})
    for step in range(4):
        losses = []
        for m in (ours, theirs):
            result = m(make_batch(step))
            for parameter in m.parameters():
                parameter.grad = None
            result.loss.backward()
            with torch.no_grad():
                for parameter in m.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.01 * parameter.grad
            m.after_update(result, progress=0.0)
            losses.append(result.loss.detach())
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.support.rows, theirs.support.rows, rtol=1e-4, atol=1e-4)


def test_no_gradient_enters_the_target_network_or_the_positives(make_method, make_batch):
    m = make_method("pnnclr")
    m(make_batch()).loss.backward()
    assert all(p.grad is None for name, p in m.named_parameters() if name.startswith("target_"))
    assert all(p.grad is not None for name, p in m.named_parameters() if not name.startswith("target_"))
    t = unit(torch.randn(4, 8)).requires_grad_()
    p = unit(torch.randn(4, 8)).requires_grad_()
    pnnclr.pair_loss(p, t, unit(torch.randn(10, 8)), pnnclr.Config(), generator("cpu", 0)).backward()
    assert t.grad is None
    assert p.grad is not None


def test_a_forward_pass_changes_neither_support_set_nor_target(make_method, make_batch):
    m = make_method("pnnclr")
    before = {key: value.clone() for key, value in m.state_dict().items() if "support" in key or "target" in key}
    m(make_batch())
    after = m.state_dict()
    parameters = {name for name, _ in m.named_parameters()}
    assert all(torch.equal(after[key], before[key]) for key in before if key in parameters or "support" in key)


def test_after_the_update_the_target_has_moved_towards_the_online_network_by_one_minus_m(make_method, make_batch):
    m = make_method("pnnclr", momentum=0.9)
    with torch.no_grad():
        for p in m.encoder.parameters():
            p.add_(1.0)
    target = [p.clone() for p in m.target_encoder.parameters()]
    m.after_update(m(make_batch()), progress=0.0)
    for before, now, online in zip(target, m.target_encoder.parameters(), m.encoder.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * before + 0.1 * online, rtol=1e-5, atol=1e-6)


def test_the_rows_pushed_are_the_target_projections_of_the_first_view(make_method, make_batch):
    m = make_method("pnnclr")
    step = m(make_batch())
    with torch.no_grad():
        t1 = unit(m.target_projector(m.target_encoder(torch.cat(make_batch().views)))).chunk(2)[0]
    m.after_update(step, 0.0)
    torch.testing.assert_close(m.support.rows[:6], t1, rtol=1e-5, atol=1e-6)
    assert int(m.support.pushed) == 6


def test_pseudo_neighbours_lie_between_the_embedding_and_its_hard_neighbour():
    z, Q = unit(torch.randn(50, 16, generator=torch.Generator().manual_seed(1))), unit(torch.randn(80, 16))
    nn = Q[(z @ Q.T).argmax(dim=1)]
    between = pnnclr.pseudo_neighbour(z, Q, pnnclr.Config(alpha=0.5, noise=0), generator("cpu", 0))
    assert ((between * z).sum(1) > (nn * z).sum(1)).all()
    torch.testing.assert_close((between * z).sum(1), (between * nn).sum(1))
    torch.testing.assert_close(between.norm(dim=1), torch.ones(50))


def test_each_row_draws_its_own_alpha_from_the_range():
    z, Q = unit(torch.randn(200, 16)), unit(torch.randn(80, 16))
    nn = Q[(z @ Q.T).argmax(dim=1)]
    config = pnnclr.Config(alpha=(0.2, 0.6), noise=0, renormalise=False)
    y = pnnclr.pseudo_neighbour(z, Q, config, generator("cpu", 0))
    alpha = ((y - z) / (nn - z)).median(dim=1).values
    assert 0.2 <= float(alpha.min()) < 0.25
    assert 0.55 < float(alpha.max()) <= 0.6


def test_noise_moves_a_pseudo_neighbour_by_sigma_radians():
    z = unit(torch.randn(2000, 128))
    y = pnnclr.pseudo_neighbour(z, z.clone(), pnnclr.Config(alpha=0.0, noise=0.1), generator("cpu", 0))
    angle = torch.acos((y * z).sum(1).clamp(-1, 1))
    assert abs(float(angle.pow(2).mean().sqrt()) - 0.1) < 0.005


def test_top_k_takes_each_of_the_k_closest_rows_and_no_other():
    z = unit(torch.randn(1, 8)).repeat(300, 1)
    Q = unit(torch.randn(30, 8))
    y = pnnclr.pseudo_neighbour(z, Q, pnnclr.Config(alpha=1.0, noise=0, top_k=3), generator("cpu", 0))
    chosen = set((y @ Q.T).argmax(dim=1).tolist())
    assert chosen == set((z[0] @ Q.T).topk(3).indices.tolist())


def test_the_same_seed_and_step_give_the_same_noise_and_another_step_another(make_method, make_batch):
    m = make_method("pnnclr", noise=0.3)
    same = [float(m(make_batch()).loss.detach()) for _ in range(2)]
    later = Batch(make_batch().views, make_batch().rows, step=1, seed=0)
    assert same[0] == same[1] != float(m(later).loss.detach())
