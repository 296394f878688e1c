"""What two processes gather, and the gradients that they have once averaged as DistributedDataParallel does.

That class itself is at work in tests/contracts/test_many_devices.py; here its import would take longer than all tests."""

import processes
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.nn.gather import devices, gather, total

B, D = 8, 3
CASES = {
    "float32": torch.randn(B, D, generator=torch.Generator().manual_seed(1)),
    "float64": torch.randn(B, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
    "int64": torch.arange(B * D).reshape(B, D) * 2**40,
    "vector": torch.arange(B),
    "columns": torch.randn(D, B, generator=torch.Generator().manual_seed(3)).T,
}


def own(x: Tensor, rank: int) -> Tensor:
    share = B // processes.WORLD
    return x[rank * share : (rank + 1) * share]


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def whole_loss(z: Tensor) -> Tensor:
    """Nonlinear in the whole batch: each row is compared with all others, and a statistic over the batch divides."""
    z = F.normalize(z, dim=1)
    return torch.logsumexp(z @ z.T / 0.2, dim=1).mean() + (z.T @ z).square().sum() / z.var(dim=0).sum()


def in_a_process(rank: int) -> dict:
    x = CASES["float64"]
    module = network()
    z = gather(module(own(x, rank)))
    loss = whole_loss(z)
    gradients = [g / processes.WORLD for g in torch.autograd.grad(loss, list(module.parameters()))]
    for gradient in gradients:
        dist.all_reduce(gradient)
    ones = torch.ones(2)
    three = total((rank + 1) * ones)
    mine = total(ones)
    leaf = own(x, rank).clone().requires_grad_()
    (through,) = torch.autograd.grad(total(leaf.square().sum() * (rank + 1)).square(), leaf)
    with torch.no_grad():
        fixed = gather(own(x, rank).clone().requires_grad_())
    return {
        "gathered": {name: gather(own(case, rank)) for name, case in CASES.items()},
        "devices": devices(),
        "loss": loss.detach(),
        "gradients": gradients,
        "totals": [three, mine, ones],
        "through total": through,
        "without gradient": fixed.requires_grad,
    }


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    return processes.returned(__file__, "in_a_process")


@pytest.mark.parametrize("name", CASES)
def test_every_process_has_all_rows_in_the_order_of_the_ranks(name, ranks):
    for rank in ranks:
        assert rank["devices"] == 2
        assert torch.equal(rank["gathered"][name], CASES[name])


def test_the_processes_gradients_are_those_of_one_process_with_the_whole_batch(ranks):
    module = network()
    expected = whole_loss(module(CASES["float64"]))
    gradients = torch.autograd.grad(expected, list(module.parameters()))
    for rank in ranks:
        torch.testing.assert_close(rank["loss"], expected.detach(), rtol=0, atol=1e-12)
        for found, gradient in zip(rank["gradients"], gradients, strict=True):
            assert gradient.abs().max() > 1e-3
            torch.testing.assert_close(found, gradient, rtol=0, atol=1e-12)


def test_a_total_is_the_sum_over_the_processes_and_so_is_its_gradient(ranks):
    """Both processes square the total s of rank + 1 times their sum of squares: d(2 s^2)/dx = 4 s (rank + 1) 2 x."""
    x = CASES["float64"]
    s = sum((rank + 1) * own(x, rank).square().sum() for rank in (0, 1))
    for rank, found in enumerate(ranks):
        assert [x.tolist() for x in found["totals"]] == [[3, 3], [2, 2], [1, 1]], "and what it is of stays as it was"
        torch.testing.assert_close(found["through total"], 4 * s * (rank + 1) * 2 * own(x, rank), rtol=1e-12, atol=1e-12)


def test_what_is_gathered_without_gradient_has_none(ranks):
    assert [rank["without gradient"] for rank in ranks] == [False, False]


def test_one_process_alone_gathers_what_it_has():
    x = torch.randn(3, 2, requires_grad=True)
    assert devices() == 1
    assert gather(x) is x
    assert total(x) is x
