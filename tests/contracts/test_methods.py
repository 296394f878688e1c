"""What holds for every method: a finite loss, gradients, nothing changed before the update, the same step from the same state."""

import inspect
from dataclasses import replace

import pytest
import torch
from small import batch_for, small_method
from torch.utils._python_dispatch import TorchDispatchMode

from medssl import plugins
from medssl.methods import title, uses_labels

every_method = pytest.mark.parametrize("name", plugins.names("methods"))


@every_method
def test_a_step_has_a_finite_loss_and_gradients_that_reach_the_first_layer(name):
    method = small_method(name)
    step = method(batch_for(method))
    step.loss.backward()
    assert step.loss.shape == ()
    assert torch.isfinite(step.loss)
    first = next(method.encoder.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


@every_method
def test_nothing_but_running_statistics_changes_before_the_update(name):
    method = small_method(name)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method(batch_for(method))
    changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.rsplit(".", 1)[-1] in {"running_mean", "running_var", "num_batches_tracked"} for key in changed)


@every_method
def test_the_same_state_gives_the_same_step_with_the_global_generator_untouched(name):
    state = torch.random.get_rng_state()
    first, second = (method(batch_for(method)).loss.detach() for method in (small_method(name), small_method(name)))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())


@every_method
def test_a_restored_method_goes_on_with_the_same_bits(name):
    one, other = small_method(name), small_method(name)
    one.after_update(one(batch_for(one)), progress=0.5)
    other.load_state_dict(one.state_dict(), strict=True)
    later = batch_for(one, step=1)
    assert torch.equal(one(later).loss.detach(), other(later).loss.detach())


@every_method
def test_what_is_pushed_are_finite_unit_rows_without_gradient_and_with_a_tag_for_each(name):
    method = small_method(name)
    push = method(batch_for(method)).push
    if push is not None:
        assert not push.values.requires_grad
        torch.testing.assert_close(push.values.norm(dim=1), torch.ones(len(push.values)))
        assert push.tags.shape == (len(push.values), 4)


@every_method
def test_health_is_judged_by_unit_rows_of_both_views_without_gradient(name):
    method = small_method(name)
    embeddings = method(batch_for(method)).embeddings
    assert embeddings is not None
    for rows in embeddings:
        assert not rows.requires_grad
        assert len(rows) == 6
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(6))


@every_method
def test_the_loss_is_of_the_same_size_in_bfloat16(name):
    method = small_method(name)
    batch = batch_for(method)
    exact = method(batch).loss.detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = method(batch).loss.detach()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.2, atol=0.2)


@every_method
def test_products_of_matrices_in_its_losses_are_not_left_to_autocast(name):
    module = plugins.find("methods", name)
    functions = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
    products = [f for f in functions if any(product in inspect.getsource(f) for product in (" @ ", "einsum", "matmul"))]
    assert not [f.__name__ for f in products if not hasattr(f, "no_autocast")]


@every_method
def test_a_method_says_its_title_and_its_documentation_begins_with_it(name):
    assert title(name)
    assert str(plugins.find("methods", name).__doc__).startswith((f"{title(name)}:", f"{title(name)} ("))
    assert [title(other) for other in plugins.names("methods")].count(title(name)) == 1


@every_method
def test_labels_change_a_step_where_the_method_says_that_it_uses_labels_and_only_there(name):
    method = small_method(name)
    batch = batch_for(method)
    assert batch.labels is not None
    turned = replace(batch, labels=batch.labels.flip(0))
    assert torch.equal(method(batch).loss.detach(), method(turned).loss.detach()) is not uses_labels(name)


@every_method
def test_labels_and_patients_are_not_needed_by_default(name):
    if uses_labels(name):
        pytest.skip("trains on labels")
    method = small_method(name)
    batch = batch_for(method)
    blind = replace(batch, labels=None, patients=None)
    assert torch.equal(method(batch).loss.detach(), method(blind).loss.detach())


class HostAsks(TorchDispatchMode):
    """Notes each operation whose result the host must know to go on: on a GPU it would wait for all that is queued."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::_unique2"}:
            self.asked.append(str(func))
        return func(*args, **(kwargs or {}))


@every_method
def test_no_step_and_no_update_of_target_and_support_set_makes_the_host_wait(name):
    method = small_method(name)
    batch = batch_for(method)
    with HostAsks() as host:
        step = method(batch)
        method.after_update(step, 0.5)
    assert host.asked == []
    with HostAsks() as host:
        float(step.loss.detach())
    assert host.asked, "the test hears what it listens for"
