"""The loop: what a bad step must not touch, when it ends, and which device is chosen."""

from dataclasses import replace

import pytest
import torch
from small import noise_batch, small_method
from torch import nn

from medssl.errors import UserError
from medssl.train.bad_steps import Applied
from medssl.train.loop import Plan, choose_device, fit
from medssl.train.optimisers import make
from medssl.types import Batch, Step

CPU = torch.device("cpu")


class Linear(nn.Module):
    """A method of one weight; `updates` counts what follows an applied step."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 1, bias=False)
        self.updates: list[float] = []

    def forward(self, batch: Batch) -> Step:
        return Step(self.encoder(batch.views[0].flatten(1).mean(1, keepdim=True)).pow(2).mean())

    def after_update(self, step: Step, progress: float) -> None:
        self.updates.append(progress)


class Heard:
    """An `on_step` that keeps what it is told."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.applied: list[bool] = []

    def __call__(self, done: int, step: Step, lr: float, applied: Applied) -> bool:
        self.losses.append(float(step.loss.detach()))
        self.applied.append(bool(applied))
        return False


def batches(*values: float):
    for step, value in enumerate(values):
        view = torch.full((2, 1, 1, 1), value)
        yield Batch((view, view), torch.arange(2), step, 0)


def run(method: nn.Module, values: list[float], **options) -> int:
    plan = Plan(len(values), 0.1, 0, CPU, **options)
    return fit(method, batches(*values), make("sgd", method, 0.1, 0.0), plan)


def test_a_step_that_is_not_finite_changes_neither_weights_nor_what_follows_an_update():
    method, same = Linear(), Linear()
    same.load_state_dict(method.state_dict())
    run(method, [1.0, float("nan"), float("inf")])
    assert len(method.updates) == 1
    fit(same, batches(1.0), make("sgd", same, 0.1, 0.0), Plan(3, 0.1, 0, CPU))
    assert torch.equal(method.encoder.weight, same.encoder.weight)


@pytest.mark.fault("R9")
def test_ten_bad_steps_in_a_row_end_the_run_with_a_remedy():
    heard = Heard()
    with pytest.raises(UserError, match=r"10 steps in a row.*lower train\.lr"):
        fit(method := Linear(), batches(*[float("nan")] * 12), make("sgd", method, 0.1, 0.0), Plan(12, 0.1, 0, CPU), on_step=heard)
    assert heard.applied == [False] * 10, "the last one is told, too"
    assert run(Linear(), ([float("nan")] * 9 + [1.0]) * 2) == 20


@pytest.mark.fault("R9")
@pytest.mark.parametrize("name", ["pnnclr", "nnclr", "byol"])
def test_a_nan_in_a_batch_leaves_weights_optimiser_target_support_set_and_running_statistics_as_they_were_bit_for_bit(name):
    spoilt = noise_batch(1)
    spoilt.views[0][2, 0, 3, 3] = torch.nan
    method, same = small_method(name), small_method(name)
    optimisers = [make("adamw", of, 1e-3, 0.05) for of in (method, same)]
    plan, heard = Plan(9, 1e-3, 0, CPU), Heard()
    fit(method, [noise_batch(0), spoilt], optimisers[0], plan, on_step=heard)
    fit(same, [noise_batch(0)], optimisers[1], plan)
    assert heard.applied == [True, False]
    found, expected = method.state_dict(), same.state_dict()
    assert any("target" in key for key in found) == (name != "nnclr")
    assert any("running_mean" in key for key in found)
    assert [key for key in found if not torch.equal(found[key], expected[key])] == []
    states = [of.state_dict()["state"] for of in optimisers]
    assert all(torch.equal(value, states[1][number][key]) for number, state in states[0].items() for key, value in state.items())


def test_a_gradient_that_is_not_finite_is_not_applied_though_the_loss_is():
    class Root(Linear):
        def forward(self, batch: Batch) -> Step:
            step = super().forward(batch)
            return replace(step, loss=step.loss.sqrt())

    method = Root()
    before = method.encoder.weight.detach().clone()
    heard = Heard()
    fit(method, batches(0.0), make("sgd", method, 0.1, 0.0), Plan(1, 0.1, 0, CPU), on_step=heard)
    assert (heard.losses, heard.applied) == ([0.0], [False])
    assert torch.equal(method.encoder.weight, before)


def test_progress_runs_from_the_first_step_to_one():
    method = Linear()
    run(method, [1.0] * 4)
    assert method.updates == [0.25, 0.5, 0.75, 1.0]


def test_the_loop_ends_where_on_step_says_so():
    method = Linear()
    done = fit(method, batches(*[1.0] * 9), make("sgd", method, 0.1, 0), Plan(9, 0.1, 0, CPU), on_step=lambda done, *_: done == 3)
    assert done == 3


def test_cuda_without_a_device_is_the_users_error():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UserError, match="--device cpu"):
        choose_device("cuda")
    with pytest.raises(UserError, match="no device"):
        choose_device("gpu")
    assert choose_device("auto") == CPU


def test_a_gpu_that_is_not_there_is_refused_with_the_number_of_those_that_are_and_another_becomes_the_current_one(monkeypatch):
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    with pytest.raises(UserError, match=r"--device cuda:7: the number of GPUs that torch sees here is 2\. Use cuda:0 to cuda:1"):
        choose_device("cuda:7")
    assert choose_device("cuda") == torch.device("cuda")
    assert current == []
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert current == [torch.device("cuda:1")]


def test_a_training_computes_in_full_float32_and_leaves_the_settings_of_torch_as_they_were():
    """Which arithmetic the forward and the backward pass of the loop have, with torch's own defaults before."""
    seen = []

    class Looks(Linear):
        def forward(self, batch: Batch) -> Step:
            seen.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
            return super().forward(batch)

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        run(Looks(), [1.0])
        assert seen == [(False, "highest")]
        assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (True, "high")
    finally:
        torch.set_float32_matmul_precision(before)
