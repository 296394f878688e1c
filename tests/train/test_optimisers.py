"""Schedules and optimisers against formulas written out by hand."""

import math

import pytest
import timm
import torch
from torch import nn

from medssl.train.loop import Plan, fit
from medssl.train.optimisers import encoder_rate_groups, layer_decay_groups, lr_at, make, parameter_groups
from medssl.types import Batch, Step


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


@pytest.mark.parametrize("decay", [0.01, 0.0])
def test_lars_takes_the_step_of_you_et_al_at_every_weight_decay_and_that_of_sgd_for_biases(decay: float):
    layer = nn.Linear(3, 2)
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    lr, trust = 0.5, 0.001
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


def test_layer_decay_lowers_the_rate_from_each_block_of_a_resnet_to_the_one_before() -> None:
    network = timm.create_model("resnet18", num_classes=0, channels=(4, 4, 4, 4))
    head = nn.Linear(4, 2)
    groups = layer_decay_groups(network, head, 0.1, 0.5)
    scale = {id(p): group.get("lr_scale", 1.0) for group in groups for p in group["params"]}
    names = {**dict(network.named_parameters()), "head.weight": head.weight, "head.bias": head.bias}
    # eight blocks below the head and the stem below them: 1, 1/2, 1/4 ... 1/512
    place = {"head": 0, "layer4.1": 1, "layer4.0": 2, "layer3.1": 3, "layer3.0": 4}
    place |= {"layer2.1": 5, "layer2.0": 6, "layer1.1": 7, "layer1.0": 8, "conv1": 9, "bn1": 9}
    for name, parameter in names.items():
        (part,) = (part for part in place if name.startswith(f"{part}."))
        assert scale[id(parameter)] == pytest.approx(0.5 ** place[part]), name
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in names.values()), "each parameter stands in one group"
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert all(decays[id(p)] == (0.1 if p.ndim > 1 else 0.0) for p in names.values())


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_a_network_without_layers_of_its_own_is_one_layer_and_no_decay_is_one_rate(decay: float) -> None:
    network, head = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), nn.Linear(2, 2)
    groups = layer_decay_groups(network, head, 0.1, decay)
    scale = {id(p): group.get("lr_scale", 1.0) for group in groups for p in group["params"]}
    assert len(scale) == 6 and sum(len(group["params"]) for group in groups) == 6
    assert {scale[id(p)] for p in network.parameters()} == {decay} and {scale[id(p)] for p in head.parameters()} == {1.0}
    of_timm = timm.create_model("test_resnet", num_classes=0)
    assert {group.get("lr_scale", 1.0) for group in layer_decay_groups(of_timm, head, 0.1, 1.0)} == {1.0}


def test_the_encoder_has_its_share_of_the_rate_and_the_heads_the_whole():
    method = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), "projector": nn.Linear(2, 2)})
    groups = encoder_rate_groups(method, 0.1, 0.25)
    found = {id(p): (group.get("lr_scale", 1.0), group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == 6 == sum(len(group["params"]) for group in groups)
    for name, p in method.named_parameters():
        assert found[id(p)] == (0.25 if name.startswith("encoder.") else 1.0, 0.1 if p.ndim > 1 else 0.0), name
    assert [len(group["params"]) for group in encoder_rate_groups(method, 0.1, 1.0)] == [2, 4], "as without the setting"


class Slope(nn.Module):
    """A loss that falls by one with each of its two numbers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return Step((self.a + self.b).sum())

    def after_update(self, step, progress):
        pass


def test_the_loop_multiplies_the_rate_by_the_scale_of_each_group_at_every_step():
    slope = Slope()
    groups = [{"params": [slope.a], "lr_scale": 0.25}, {"params": [slope.b]}]
    optimiser = make("sgd", slope, 0.1, 0.0, groups)
    batches = [Batch((torch.zeros(1),), torch.arange(1), step, 0) for step in range(2)]
    fit(slope, batches, optimiser, Plan(2, 0.1, 2, torch.device("cpu")))
    # warm-up to 0.1 in two steps, momentum 0.9: 0.05 and then 0.1 of 1.9
    assert slope.b.item() == pytest.approx(-(0.05 + 0.1 * 1.9)) and slope.a.item() == pytest.approx(-0.25 * (0.05 + 0.1 * 1.9))
