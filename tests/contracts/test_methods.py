"""What holds for every method: a finite loss, gradients, nothing changed before the update, the same step from the same state."""

import pytest
import torch

from medssl import plugins
from medssl.encoder.artefact import build_encoder
from medssl.types import Batch

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
every_method = pytest.mark.parametrize("name", plugins.names("methods"))


def built(name: str):
    encoder = build_encoder(BACKBONE, 1, 16, torch.tensor([0.5]), torch.tensor([0.25]), seed=0)
    module = plugins.find("methods", name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module.build(module.Config(), encoder)


def batch() -> Batch:
    images = torch.randint(0, 256, (2, 6, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch((images[0], images[1]), torch.arange(6), step=0, seed=0)


@every_method
def test_a_step_has_a_finite_loss_and_gradients_that_reach_the_first_layer(name):
    method = built(name)
    step = method(batch())
    step.loss.backward()
    assert step.loss.shape == ()
    assert torch.isfinite(step.loss)
    first = next(method.encoder.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


@every_method
def test_nothing_but_running_statistics_changes_before_the_update(name):
    method = built(name)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method(batch())
    changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.rsplit(".", 1)[-1] in {"running_mean", "running_var", "num_batches_tracked"} for key in changed)


@every_method
def test_the_same_state_gives_the_same_step_with_the_global_generator_untouched(name):
    state = torch.random.get_rng_state()
    first, second = (built(name)(batch()).loss.detach() for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())


@every_method
def test_a_restored_method_goes_on_with_the_same_bits(name):
    one, other = built(name), built(name)
    one.after_update(one(batch()), progress=0.5)
    other.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one(batch()).loss.detach(), other(batch()).loss.detach())


@every_method
def test_what_is_pushed_are_finite_unit_rows_without_gradient(name):
    push = built(name)(batch()).push
    if push is not None:
        assert not push.requires_grad
        torch.testing.assert_close(push.norm(dim=1), torch.ones(len(push)))
