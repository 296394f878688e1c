"""What holds for every method on whole volumes: a step, the batches of a training, a resumed training, and no wait for a GPU."""

from typing import Any

import numpy as np
import pytest
import torch
from pretended_step import PretendedStep
from small import CLASSES, small_method
from volume_stores import in_one_file

from medssl import plugins
from medssl.data.loader import Batches, Loader
from medssl.data.store import StoredVolumes
from medssl.encoder.artefact import build_encoder
from medssl.errors import UserError
from medssl.nn import Encoder
from medssl.train import optimisers
from medssl.train.diagnosis import CollapseMonitor
from medssl.train.feed import Feed
from medssl.train.loop import Plan, fit
from medssl.train.memory import activation_bytes
from medssl.types import Batch
from medssl.views import multi_crop

CUBE = (16, 16, 16)
CPU = torch.device("cpu")
BACKBONE = {"name": "monai", "model": "resnet10", "width": 8}
STORED = np.random.default_rng(0).integers(0, 65536, (20, 1, *CUBE), np.uint16)


def encoder() -> Encoder:
    return build_encoder(BACKBONE, 1, CUBE, torch.tensor([0.5]), torch.tensor([0.25]), seed=0)


def method_of_volumes(name: str) -> Any:
    """Without the small crops that some methods have of images."""
    options = {"local_crops": 0} if "local_crops" in plugins.find("methods", name).Config.model_fields else {}
    return small_method(name, encoder(), **options)


def noise(step: int = 0) -> Batch:
    random, rows = torch.Generator().manual_seed(step), torch.arange(6)
    views = tuple(torch.rand(6, 1, *CUBE, generator=random) for _ in range(2))
    return Batch(views, rows, step, seed=0, labels=rows % CLASSES, patients=rows // 2)


@pytest.mark.parametrize("name", plugins.names("methods"))
def test_every_method_makes_a_step_on_volumes_whose_gradient_reaches_the_first_layer(name):
    method = method_of_volumes(name)
    method.encoder.micro_batch = 4
    step = method(noise())
    step.loss.backward()
    assert torch.isfinite(step.loss)
    assert next(method.encoder.parameters()).grad.abs().sum() > 0
    assert all(bool(rows.isfinite().all()) for rows in step.embeddings)
    method.after_update(step, progress=0.5)
    assert torch.isfinite(method(noise(1)).loss)


Images = np.ndarray | StoredVolumes


@pytest.fixture(params=["whole", "patches"])
def images(request, tmp_path) -> Images:
    """Whole volumes of one shape, or volumes of several shapes of which patches are read."""
    if request.param == "whole":
        return STORED
    random = np.random.default_rng(0)
    volumes = [random.integers(0, 65536, (1, 16 + row, 40 - row, 18 + row % 3), np.uint16) for row in range(len(STORED))]
    return in_one_file(tmp_path / "images.npy", volumes, CUBE)


def feed(executor: str, start: int = 0, workers: int = 0, images: Images = STORED) -> Feed:
    """The batches of six steps, as `trainer` makes them."""
    recipe = plugins.find("views.recipes", "volume_mr")
    operations = recipe.build(recipe.Config())
    make_view, number = multi_crop.make("auto", operations, CUBE, None)
    on_device = multi_crop.make_on_device(operations, CUBE, None)[0] if executor == "torch" else None
    rows = np.arange(len(images))
    batches = Batches(images, rows, None if on_device else make_view, 3, 8, labels=rows % CLASSES, patients=rows // 2, n_views=number)
    return Feed(Loader(batches, 6, start, workers), CPU, on_device)


def state_after(images: Images, steps: int, start: int = 0, workers: int = 0, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Weights and optimiser of a training that starts from the state `before` or from its beginning, after `steps` steps."""
    method = method_of_volumes("pnnclr")
    optimiser = optimisers.make("adamw", method, 1e-3, 0.05)
    if before is not None:
        method.load_state_dict(before["method"], strict=True)
        optimisers.restore(optimiser, before["optimiser"])
    monitor = CollapseMonitor(method.encoder, feed("auto", images=images).batch(0).views[0])
    spreads: list[float] = []

    def stop(done: int, step: Any, lr: float, applied: Any) -> bool:
        spreads.append(monitor(step, lr).embedding_std)
        return done == steps

    fit(method, feed("auto", start, workers, images), optimiser, Plan(6, 1e-3, 1, CPU), start, stop)
    assert np.isfinite(spreads).all()
    return {"method": method.state_dict(), "optimiser": optimiser.state_dict()}


def assert_equal_bits(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert all(torch.equal(value, other["method"][name]) for name, value in one["method"].items())
    for number, state in one["optimiser"]["state"].items():
        assert all(torch.equal(value, other["optimiser"]["state"][number][name]) for name, value in state.items())


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_training_that_goes_on_from_its_third_step_has_the_bits_of_one_that_was_left_alone(workers, images, tmp_path):
    torch.save(state_after(images, 3), tmp_path / "state.pt")
    before = torch.load(tmp_path / "state.pt", weights_only=True)
    assert_equal_bits(state_after(images, 6, start=3, workers=workers, before=before), state_after(images, 6))


def test_batches_of_both_executors_have_two_views_of_volumes_in_the_unit_range(images):
    on_cpu, on_device = (feed(executor, images=images).batch(2) for executor in ("auto", "torch"))
    assert torch.equal(on_cpu.rows, on_device.rows)
    for one, other in zip(on_cpu.views, on_device.views, strict=True):
        assert one.shape == other.shape == (8, 1, *CUBE)
        assert one.dtype == other.dtype == torch.float32
        assert one.min() >= 0 and one.max() <= 1
        assert (one - other).abs().mean() < 0.02
    assert (on_cpu.views[0] - on_cpu.views[1]).abs().mean() > 0.05


def test_the_memory_of_a_step_is_estimated_for_volumes():
    one, eight = (activation_bytes(encoder(), 1, (edge, edge, edge)) for edge in (16, 32))
    assert 4 * 8 * 8**3 < one < 2**20
    assert 7 < eight / one < 9


@pytest.mark.slow
def test_a_step_on_volumes_makes_a_gpu_wait_for_nothing():
    gpu = PretendedStep(method_of_volumes("pnnclr"), size=CUBE, recipe="volume_mr").run()
    assert gpu.waits == []
    assert gpu.launches["views"] and gpu.launches["backward"]


def test_small_crops_of_volumes_are_refused():
    method = small_method("dino", encoder())
    recipe = plugins.find("views.recipes", "volume_ct")
    with pytest.raises(UserError, match=r"method\.local_crops=0"):
        multi_crop.make("auto", recipe.build(recipe.Config()), CUBE, method.local_views)
