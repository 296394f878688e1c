"""Two whole views and the local ones after them: sizes, shares of the area, and one batch of both through the loader."""

import pickle

import numpy as np
import pytest
import torch

from medssl.data.loader import Batches, Loader
from medssl.types import LocalViews
from medssl.views import executors, multi_crop
from medssl.views.operations import HorizontalFlip, Operation, ResizedCrop
from medssl.views.recipes import chest_xray, natural

RECIPE: list[Operation] = [ResizedCrop((0.08, 1.0), (0.75, 4 / 3)), HorizontalFlip(0.5)]
LOCAL = LocalViews(6, 96 / 224, area=(0.05, 0.4), whole_area=(0.4, 1.0))
TEXTURE = np.random.default_rng(0).integers(0, 256, (1, 80, 80), np.uint8)


@pytest.fixture(params=["albumentations", "torch"])
def executor(request: pytest.FixtureRequest) -> executors.Executor:
    return request.param


def share_of_area(view: np.ndarray) -> float:
    """Of a view of `where`: how far neighbouring pixels lie apart, times the view's edge, is the box's width and height."""
    columns, rows = view[0] * 65535 / 300, view[1] * 65535 / 300
    edge = view.shape[1]
    width, height = (np.median(np.abs(np.diff(lie, axis=axis))) * edge for lie, axis in ((columns, 1), (rows, 0)))
    return width * height / 200**2


def test_two_whole_views_come_first_and_smaller_ones_after_them() -> None:
    make, number = multi_crop.make("auto", RECIPE, 64, LOCAL)
    assert number == 2 + 6
    assert [make(TEXTURE, (0, 0, 0, view)).shape for view in range(number)] == [(1, 64, 64)] * 2 + [(1, 24, 24)] * 6


@pytest.mark.parametrize(("size", "edge"), [(224, 96), (128, 56), (64, 24), (32, 16), (28, 16), (16, 8)])
def test_the_edge_of_local_views_is_the_multiple_of_8_next_to_its_share(size: int, edge: int) -> None:
    make, _ = multi_crop.make("auto", RECIPE, size, LOCAL)
    assert make(TEXTURE, (0, 0, 0, 2)).shape == (1, edge, edge)


@pytest.mark.slow
def test_each_kind_of_view_shows_its_own_shares_of_the_image_whatever_the_recipe_says(executor: executors.Executor) -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint16) * 300, (200, 200))
    where = np.stack([ramp, ramp.T, ramp])  # channel 0 tells the column, channel 1 the row
    make, _ = multi_crop.make(executor, RECIPE, 112, LOCAL)
    for views, low, high in (((0, 1), 0.4, 1.0), (range(2, 8), 0.05, 0.4)):
        shares = np.array([share_of_area(make(where, (0, step, 0, view))) for step in range(1500 // len(views)) for view in views])
        assert 0.95 * low < shares.min() < 1.25 * low  # boxes have whole pixels
        assert 0.95 * high < shares.max() < 1.05 * high
        assert 0.3 < (shares > (low + high) / 2).mean() < 0.7


@pytest.mark.parametrize("recipe", [chest_xray, natural])
def test_the_recipes_other_operations_are_applied_to_both_kinds(recipe) -> None:
    flat = np.full((3, 32, 32), 100, np.uint8)  # a crop of it is flat and has its value
    make, number = multi_crop.make("auto", recipe.build(recipe.Config()), 32, LOCAL)
    for view in (0, number - 1):
        assert len({make(flat, (0, step, 0, view)).tobytes() for step in range(20)}) > 10


@pytest.mark.parametrize("local", [None, LocalViews(0, 0.5, (0.05, 0.4), (0.4, 1.0))])
def test_without_local_views_there_are_the_recipes_own_two(local: LocalViews | None) -> None:
    make, number = multi_crop.make("auto", RECIPE, 64, local)
    own = executors.make("auto", RECIPE, 64)
    assert number == 2
    for key in ((0, 0, 0, 0), (0, 0, 0, 1), (3, 2, 1, 0)):
        np.testing.assert_array_equal(make(TEXTURE, key), own(TEXTURE, key))


def test_the_key_alone_decides_and_no_two_keys_give_one_crop(executor: executors.Executor) -> None:
    make, number = multi_crop.make(executor, RECIPE, 64, LOCAL)
    keys = [(seed, step, row, view) for seed in (0, 1) for step in (0, 1) for row in (0, 1) for view in range(number)]
    first = {key: make(TEXTURE, key).tobytes() for key in keys}
    assert len(set(first.values())) == len(keys)
    assert {key: make(TEXTURE, key).tobytes() for key in reversed(keys)} == first


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_holds_views_of_both_sizes_of_the_same_images_from_any_process(executor: executors.Executor, workers: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (9, 1, 48, 48), np.uint8)
    make, number = multi_crop.make(executor, RECIPE, 32, LOCAL)
    for batch in Loader(Batches(images, np.arange(9), make, 7, batch_size=4, n_views=number), steps=2, workers=workers):
        assert [tuple(view.shape) for view in batch.views] == [(4, 1, 32, 32)] * 2 + [(4, 1, 16, 16)] * 6
        for v, views in enumerate(batch.views):
            for row, view in zip(batch.rows.tolist(), views, strict=True):
                assert torch.equal(view, torch.from_numpy(make(images[row], (7, batch.step, row, v))))


def test_the_maker_survives_a_pickle_as_a_spawned_worker_gets_it() -> None:
    make, number = multi_crop.make("auto", RECIPE, 32, LOCAL)
    again = pickle.loads(pickle.dumps(make))  # noqa: S301
    for view in range(number):
        np.testing.assert_array_equal(again(TEXTURE, (0, 0, 0, view)), make(TEXTURE, (0, 0, 0, view)))


@pytest.mark.parametrize("local", [None, LOCAL])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_batch_made_on_the_device_is_what_the_torch_executor_makes_of_each_image(local: LocalViews | None, dtype: type) -> None:
    images = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (4, 3, 48, 48), dtype, endpoint=True)
    rows = [5, 2, 9, 1]
    recipe = natural.build(natural.Config(blur_p=0.5))
    (make, number), (make_batch, number_on_device) = (
        multi_crop.make("torch", recipe, 32, local),
        multi_crop.make_on_device(recipe, 32, local),
    )
    views = make_batch(torch.from_numpy(images), torch.tensor(rows), 3, 7)
    assert len(views) == number == number_on_device
    for v, view in enumerate(views):
        for row, image, found in zip(rows, images, view, strict=True):
            np.testing.assert_allclose(found.numpy(), make(image, (7, 3, row, v)), rtol=0, atol=1e-6)
