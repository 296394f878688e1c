"""Views of volumes: the same on the CPU and the device, each by its key alone, with boxes that share enough of the volume."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from fake_cuda import CUDA, pretended_gpu
from scipy import ndimage

from medssl import plugins
from medssl.errors import UserError
from medssl.types import LocalViews
from medssl.views import executors, keyed_random, multi_crop, volume_geometry, volume_intensity
from medssl.views.operations import (
    AxialRotation,
    AxisFlip,
    BiasField,
    Blur,
    BoxCrop,
    BrightnessContrast,
    Gamma,
    Noise,
    ThickSlices,
    VolumeIntensity,
    VolumeOperation,
)
from medssl.views.torch_volumes import BatchViewMaker
from medssl.views.volumes import ViewMaker

CROP = BoxCrop((0.3, 1.0), 0.3, 0.25)
EVERY: list[VolumeOperation] = [
    CROP,
    AxialRotation(10, 0.5),
    *(AxisFlip(axis, 0.5) for axis in ("head_feet", "front_back", "left_right")),
    ThickSlices(3, 0.3),
    BiasField(0.15, 0.5),
    Blur((0.01, 0.05), 0.5),
    Noise((0.01, 0.05), 0.5),
    BrightnessContrast(0.2, 0.3, 0.8),
    Gamma((0.7, 1.5), 0.5),
]
RECIPES = ("volume_ct", "volume_mr", "volume_shape")


def smooth_volumes(number: int, shape: tuple[int, int, int], channels: int = 1) -> np.ndarray:
    """uint16 volumes [number, channels, *shape] without fine details, so that two interpolations hardly differ."""
    noise = np.random.default_rng(0).random((number, channels, *shape), np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 0, 3, 3, 3))
    return np.round(65535 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint16)


VOLUMES = smooth_volumes(12, (20, 24, 28), channels=2)
SIZE = (20, 24, 28)


def places_of(operation: VolumeOperation, shape: tuple[int, int, int], rows: torch.Tensor, view: int) -> volume_geometry.Places:
    """Those of one operation alone, for step 5 and seed 1."""
    return volume_geometry.places([operation], volume_geometry.draw_numbers(1, rows, 5, 1, view), shape, view)


def views_of(maker, images: np.ndarray, view: int = 0, first: int = 100) -> np.ndarray:
    return np.stack([maker(image, (1, 5, first + i, view)) for i, image in enumerate(images)])


@pytest.mark.parametrize("operations", [EVERY, *(plugins.find("views.recipes", name) for name in RECIPES)], ids=["all", *RECIPES])
def test_cpu_and_device_make_the_same_views_up_to_the_interpolation(operations) -> None:
    operations = operations if isinstance(operations, list) else operations.build(operations.Config())
    rows = torch.arange(len(VOLUMES)) + 100
    for view in (0, 1):
        on_cpu = views_of(ViewMaker(operations, SIZE), VOLUMES, view)
        on_device = BatchViewMaker(operations, SIZE).batch(torch.from_numpy(VOLUMES), rows, 5, 1, view).numpy()
        assert on_cpu.shape == on_device.shape == (12, 2, *SIZE)
        assert on_cpu.dtype == np.float32 and on_cpu.min() >= 0 and on_cpu.max() <= 1
        assert np.abs(on_cpu - on_device).mean() < 1e-3
        assert np.quantile(np.abs(on_cpu - on_device), 0.999) < 0.02  # the black border of rotations is sharp


def test_a_view_depends_on_seed_step_row_and_view_and_on_nothing_else() -> None:
    make = pickle.loads(pickle.dumps(ViewMaker(EVERY, SIZE)))  # noqa: S301 - as a worker that was spawned gets it
    volume = VOLUMES[0]
    first = make(volume, (1, 5, 100, 0))
    make(VOLUMES[1], (9, 9, 9, 9))
    assert np.array_equal(first, ViewMaker(EVERY, SIZE)(volume, (1, 5, 100, 0)))
    for key in ((2, 5, 100, 0), (1, 6, 100, 0), (1, 5, 101, 0), (1, 5, 100, 1)):
        assert np.abs(make(volume, key) - first).mean() > 0.005
    device, rows = BatchViewMaker(EVERY, SIZE), torch.arange(12)
    whole = device.batch(torch.from_numpy(VOLUMES), rows, 5, 1, 0)
    part = device.batch(torch.from_numpy(VOLUMES[3:7]), rows[3:7], 5, 1, 0)
    torch.testing.assert_close(part, whole[3:7], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64, 64), (9, 40, 31)])
def test_the_two_boxes_of_a_pair_are_in_the_volume_and_share_a_quarter_of_the_smaller_one(shape: tuple[int, int, int]) -> None:
    rows, whole = torch.arange(1000), torch.tensor(shape)
    boxes = [places_of(CROP, shape, rows, view) for view in (0, 1)]
    for box in boxes:
        assert bool((box.start >= 0).all() and (box.start + box.side <= whole).all() and (box.side >= 1).all())
        share = (box.side / whole).prod(1)
        assert share.min() > 0.25 and share.max() <= 1  # whole voxels change the share of 0.3 a little
        assert share.std() > 0.15
    assert counted_overlap(boxes, shape).min() >= 0.25


def test_small_boxes_share_as_much_as_is_asked_for_and_less_where_nothing_is_asked_for() -> None:
    shape, rows = (12, 16, 20), torch.arange(1000)
    for asked in (0.0, 0.25, 0.5):
        crop = BoxCrop((0.1, 0.3), 0.3, asked)
        common = counted_overlap([places_of(crop, shape, rows, view) for view in (0, 1)], shape)
        assert asked <= common.min() < asked + 0.1


def counted_overlap(boxes: list[volume_geometry.Places], shape: tuple[int, int, int]) -> np.ndarray:
    """The voxels that the boxes of each pair have in common, counted one by one, as a share of the smaller box."""
    shares = []
    for box in zip(*(torch.cat((box.start, box.start + box.side), 1).int().tolist() for box in boxes), strict=True):
        first, second = np.zeros((2, *shape), bool)
        for mask, (z, y, x, deep, tall, wide) in zip((first, second), box, strict=True):
            mask[z:deep, y:tall, x:wide] = True
        shares.append((first & second).sum() / min(first.sum(), second.sum()))
    return np.array(shares)


def test_where_no_place_fits_the_boxes_are_moved_within_each_other() -> None:
    """Places at opposite corners, whatever is drawn; the sides stay random."""
    drawn = keyed_random.uniform(torch.arange(1000), volume_geometry.NUMBERS)
    drawn[:, 8:] = torch.tensor([0.0, 0.0, 0.0, 0.999, 0.999, 0.999]).repeat(10)
    small = BoxCrop((0.1, 0.3), 0.3, 0.25)
    start, side = volume_geometry.draw_boxes(small, drawn, (40, 40, 40))
    assert volume_geometry.overlap(start, side).min() >= 0.25
    assert bool((start >= 0).all() and (start + side <= 40).all())


def test_a_crop_is_the_part_of_the_volume_that_it_says() -> None:
    """Of a volume whose values are the positions along an axis, a view has the positions of its box."""
    box = places_of(CROP, (20, 24, 28), torch.tensor([3]), 0)
    for axis, (edge, size) in enumerate(zip((20, 24, 28), SIZE, strict=True)):
        ramp = np.broadcast_to((1000 * np.arange(edge)).reshape([-1 if i == axis else 1 for i in range(3)]), (20, 24, 28))
        view = ViewMaker([CROP], SIZE)(ramp[None].astype(np.uint16), (1, 5, 3, 0))[0] * 65.535
        start, side = float(box.start[0, axis]), float(box.side[0, axis])
        expected = start + np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
        np.testing.assert_allclose(np.moveaxis(view, axis, 0).mean((1, 2)), expected, atol=1e-3)


@pytest.mark.parametrize(("axis", "name"), [(1, "head_feet"), (2, "front_back"), (3, "left_right")])
def test_a_flip_mirrors_the_axis_that_is_named_and_no_recipe_mirrors_another_one(axis: int, name) -> None:
    np.testing.assert_allclose(ViewMaker([AxisFlip(name, 1)], SIZE)(VOLUMES[0], (0, 0, 0, 0)), np.flip(VOLUMES[0], axis) / 65535, atol=1e-6)
    for recipe in RECIPES:
        module = plugins.find("views.recipes", recipe)
        named = {operation.axis for operation in module.build(module.Config()) if isinstance(operation, AxisFlip)}
        assert named == (set() if recipe == "volume_ct" else {"left_right"})
        chosen = module.build(module.Config(flip_axes=(name,)))
        assert {operation.axis for operation in chosen if isinstance(operation, AxisFlip)} == {name}


def test_a_rotation_turns_every_axial_slice_as_OpenCV_does() -> None:
    rotation, rows = AxialRotation(30, 1), torch.tensor([4])
    angle = float(places_of(rotation, (20, 24, 28), rows, 0).angle)
    turned = cv2.getRotationMatrix2D((13.5, 11.5), np.degrees(angle), 1)
    expected = [cv2.warpAffine(piece.astype(np.float32) / 65535, turned, (28, 24)) for piece in VOLUMES[0, 0]]
    found = ViewMaker([rotation], SIZE)(VOLUMES[0], (1, 5, 4, 0))[0]
    assert abs(angle) > 0.05
    assert np.abs(found - np.stack(expected)).max() < 0.01


def changed(operation: VolumeIntensity, x: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """The volumes after the operation with these random numbers."""
    of = volume_intensity.tables(operation, drawn, (x.shape[2], x.shape[3], x.shape[4]))
    return volume_intensity.apply(operation, x, of, torch.arange(len(x)))


@pytest.mark.parametrize(
    "operation",
    [
        BrightnessContrast(0.3, 0.3, p=0.5),
        Gamma((0.5, 2), p=0.5),
        Blur((0.02, 0.1), p=0.5),
        Noise((0.05, 0.1), p=0.5),
        BiasField(0.3, p=0.5),
        ThickSlices(3, p=0.5),
    ],
)
def test_an_operation_that_is_not_applied_to_a_volume_of_a_batch_leaves_its_bits(operation) -> None:
    x = torch.rand(2, 1, 8, 10, 12, generator=torch.Generator().manual_seed(0))
    drawn = torch.rand(2, 65, generator=torch.Generator().manual_seed(1))
    drawn[:, 0] = torch.tensor([0.4, 0.6])
    found = changed(operation, x, drawn)
    assert torch.equal(found[1], x[1])
    assert (found[0] - x[0]).abs().mean() > 0.001


def test_a_blur_is_that_of_scipy_along_every_axis() -> None:
    x = torch.rand(2, 1, 20, 24, 28, generator=torch.Generator().manual_seed(0))
    found = changed(Blur((0.04, 0.12), p=1), x, torch.tensor([[0, 0, 0], [0, 0.5, 0]]))
    for i, share in enumerate((0.04, 0.08)):
        expected = x[i, 0].numpy()
        for axis, edge in enumerate((20, 24, 28)):
            expected = ndimage.gaussian_filter1d(expected, share * edge, axis, mode="mirror", radius=int(3.5 * share * edge))
        np.testing.assert_allclose(found[i, 0].numpy(), expected, atol=1e-5)


def test_thick_slices_are_means_of_three_and_interpolated_back() -> None:
    """Slices 0 to 6 with the values 0, 3, 9, 12, 12, 18, 30: means 4, 14 and, of the last one alone, 30, at slices 1, 4 and 7."""
    matrix = volume_intensity.thick_slices(7, 3)
    found = matrix @ torch.tensor([0.0, 3, 9, 12, 12, 18, 30])
    torch.testing.assert_close(found, torch.tensor([4, 4, 4 + 10 / 3, 4 + 20 / 3, 14, 14 + 16 / 3, 14 + 32 / 3]))


def test_a_bias_field_is_smooth_and_that_of_numpys_legendre_polynomials() -> None:
    drawn = torch.rand(1, 65, generator=torch.Generator().manual_seed(0))
    found = changed(BiasField(0.5, p=1), torch.full((1, 1, 8, 10, 12), 1 / 64), drawn)[0, 0].numpy() * 64
    coefficients = drawn[:, 1:] - 0.5
    z, y, x = (np.linspace(-1, 1, edge) for edge in (8, 10, 12))
    used = coefficients.reshape(4, 4, 4).numpy() * np.array([1 <= sum(degrees) <= 3 for degrees in np.ndindex(4, 4, 4)]).reshape(4, 4, 4)
    expected = np.exp(np.polynomial.legendre.leggrid3d(z, y, x, used))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_shape_stays_a_shape_but_for_its_edges() -> None:
    """volume_shape changes no values: inside of a mask is 1, outside is 0."""
    mask = np.zeros((1, 24, 24, 24), np.uint8)
    mask[:, 6:18, 6:18, 6:18] = 255
    recipe = plugins.find("views.recipes", "volume_shape")
    views = np.stack([ViewMaker(recipe.build(recipe.Config()), (24, 24, 24))(mask, (0, 0, row, 0)) for row in range(8)])
    assert ((views < 0.01) | (views > 0.99)).mean() > 0.75
    assert all(view.max() == pytest.approx(1, abs=1e-5) for view in views)


def test_views_on_the_device_wait_for_nothing() -> None:
    module = plugins.find("views.recipes", "volume_mr")  # it has all operations
    with pretended_gpu() as gpu:
        make, number = multi_crop.make_on_device(module.build(module.Config()), (8, 12, 12), None)
        views = make(torch.empty(4, 1, 8, 12, 12, dtype=torch.uint16, device=CUDA), torch.arange(4), 3, 0)
        assert number == len(views) == 2
        assert all(view.shape == (4, 1, 8, 12, 12) and view.device == CUDA for view in views)
    assert gpu.waits == []


def test_recipes_of_images_for_volumes_small_crops_and_the_other_way_round_are_refused() -> None:
    of_images = plugins.find("views.recipes", "chest_xray")
    operations = of_images.build(of_images.Config())
    with pytest.raises(UserError, match="volume_ct, volume_mr or volume_shape"):
        executors.make("auto", operations, SIZE)
    with pytest.raises(UserError, match="volume_ct, volume_mr or volume_shape"):
        multi_crop.make_on_device(operations, SIZE, None)
    with pytest.raises(UserError, match="chest_xray or natural"):
        multi_crop.make("auto", EVERY, 32, None)
    crops = LocalViews(number=4, edge=0.5, area=(0.1, 0.3), whole_area=(0.3, 1.0))
    for make in (lambda: multi_crop.make("auto", EVERY, SIZE, crops), lambda: multi_crop.make_on_device(EVERY, SIZE, crops)):
        with pytest.raises(UserError, match=r"method\.local_crops=0"):
            make()
