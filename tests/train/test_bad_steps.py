"""The flag on the device, with real numbers: `OnDevice` needs no GPU, so what it does is compared on the CPU with what the host decides."""

from functools import partial
from typing import Any

import pytest
import torch
from small import noise_batch, small_method

from medssl.nn import Encoder
from medssl.train import bad_steps, optimisers
from medssl.train.bad_steps import BadSteps, OnDevice, OnHost

NAMES = ["pnnclr", "dino", "moco"]


class Sent(bad_steps.Verdict):
    """A verdict that arrives as the flag of a GPU does; on a CPU there is no event to wait for."""

    def __init__(self, bad: torch.Tensor) -> None:
        self._bad = bad

    def __bool__(self) -> bool:
        return not self._bad


@pytest.fixture(autouse=True)
def _no_event(monkeypatch):
    monkeypatch.setattr(bad_steps, "Verdict", Sent)


def trained(name: str, kind, optimiser: str, spoilt: tuple[int, ...]):
    """Method and optimiser after four steps, of which the `spoilt` ones have a NaN in a view; and whether each was applied."""
    options: dict[str, Any] = {"local_crops": 0} if name == "dino" else {}
    method = small_method(name, **options)
    made: Any = optimisers.make(optimiser, method, 0.01, 0.05)
    if optimiser != "adamw":  # as `make` does for a GPU
        made.state |= {p: {"momentum_buffer": torch.zeros_like(p)} for group in made.param_groups for p in group["params"]}
    if optimiser == "sgd":
        made._step_supports_amp_scaling = True
        for group in made.param_groups:
            group["fused"] = True
    guard, applied = kind(method, made), []
    for step in range(4):
        batch = noise_batch(step)
        if step in spoilt:
            batch.views[0][2, 0, 3, 3] = torch.nan
        guard.begin()
        result = method(batch)
        made.zero_grad(set_to_none=True)
        result.loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in method.parameters() if p.grad is not None])
        applied.append(bool(guard.finish(result.loss.detach() + norm, partial(method.after_update, result, step / 4))))
    return method, made, applied


def equal_states(one, other) -> list[str]:
    """The names of what differs in one bit."""
    states = [{**method.state_dict(), **_of_optimiser(method, made)} for method, made, _ in (one, other)]
    return [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]


def _of_optimiser(method, made):
    names = {p: name for name, p in method.named_parameters()}
    return {f"{names[p]} {key}": torch.as_tensor(value) for p, of in made.state.items() if of for key, value in of.items()}


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("name", NAMES)
def test_the_device_leaves_of_a_bad_step_what_the_host_leaves_bit_for_bit(name, optimiser):
    on_device, on_host = (trained(name, kind, optimiser, spoilt=(0, 2)) for kind in (OnDevice, OnHost))
    assert on_device[2] == on_host[2] == [False, True, False, True]
    assert all(torch.isfinite(value).all() for value in on_device[0].state_dict().values())
    assert equal_states(on_device, on_host) == []


def test_state_that_was_joined_is_a_view_with_the_same_strides_and_is_saved_and_copied_as_before():
    method = small_method("byol")
    before = {key: (value.clone(), value.stride()) for key, value in method.state_dict().items()}
    OnDevice(method, optimisers.make("adamw", method, 1e-3, 0))
    after = method.state_dict()
    assert [key for key, (value, stride) in before.items() if after[key].stride() != stride or not torch.equal(after[key], value)] == []
    blocks = {after[key].untyped_storage().data_ptr() for key in after if key.startswith("target")}
    assert len(blocks) == 2, "float32 and int64"
    other = small_method("byol")
    other.load_state_dict(after)
    assert isinstance(other.encoder, Encoder)


def test_the_newest_step_of_a_gpu_is_counted_at_the_next_call_and_that_of_a_cpu_at_once(monkeypatch):
    good, bad = Sent(torch.tensor(False)), Sent(torch.tensor(True))
    found, counter = [], BadSteps(total=2)
    for verdict in (bad, bad, good, bad):
        counter.add(verdict)
        found.append((counter.total, counter.in_a_row))
    assert found == [(2, 0), (3, 1), (4, 2), (4, 0)]
    counter.add(good, wait=True)
    assert (counter.total, counter.in_a_row) == (5, 0)
    counter.add(False)
    assert (counter.total, counter.in_a_row) == (6, 1)
