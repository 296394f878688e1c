"""Schedules and optimisers against formulas written out by hand."""

import math

import pytest
import torch
from torch import nn

from medssl.train.optimisers import lr_at, make, parameter_groups


def test_the_learning_rate_rises_linearly_then_follows_half_a_cosine_to_zero():
    rates = [lr_at(step, base=2.0, warmup=4, total=12) for step in range(13)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[8] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0.0, abs=1e-12)
    assert rates[6] == pytest.approx(1 + math.cos(math.pi / 4))


def test_biases_and_normalisation_take_no_weight_decay():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, free = parameter_groups(network, 0.1)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert all(p.ndim == 1 for p in free["params"])
    assert len(free["params"]) == 4
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_lars_takes_the_step_of_you_et_al():
    layer = nn.Linear(3, 2)
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    lr, decay, trust = 0.5, 0.01, 0.001
    optimiser = make("lars", layer, lr, decay)
    layer(torch.ones(1, 3)).pow(2).sum().backward()
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    g, gb = layer.weight.grad.clone(), layer.bias.grad.clone()
    optimiser.step()
    local = trust * w.norm() / (g.norm() + decay * w.norm())
    torch.testing.assert_close(layer.weight.detach(), w - lr * local * (g + decay * w), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(layer.bias.detach(), b - lr * gb, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_adamw_and_sgd_lower_a_convex_loss(name):
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 1), torch.randn(20, 3)
    optimiser = make(name, layer, {"adamw": 0.05, "sgd": 0.01}[name], 0.0)
    losses = []
    for _ in range(30):
        loss = (layer(x) - x.sum(1, keepdim=True)).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
