"""Either executor gives the views that its operations describe, and only the key decides which."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as torchvision

from medssl.views import albumentations_executor, executors
from medssl.views.operations import (
    Blur,
    BrightnessContrast,
    ColourJitter,
    CutOut,
    Gamma,
    Greyscale,
    HorizontalFlip,
    Noise,
    Operation,
    ResizedCrop,
    Rotation,
    VerticalFlip,
)

EVERY: list[Operation] = [
    ResizedCrop((0.3, 1.0), (0.75, 4 / 3)),
    HorizontalFlip(1),
    VerticalFlip(1),
    Rotation(10, 1),
    BrightnessContrast(0.5, 0.5, 1),
    Gamma((0.5, 2.0), 1),
    Blur((0.01, 0.02), 1),
    Noise((0.1, 0.2), 1),
    CutOut((0.1, 0.3), 1),
    ColourJitter(0.4, 0.4, 0.4, 0.1, 1),
    Greyscale(1),
]


def scene(channels: int = 1, size: int = 64) -> np.ndarray:
    """Smooth shapes with some texture, uint8 [C, size, size]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + phase) * np.cos(5 * y - phase) for phase in random.random(channels)]
    return (128 + 90 * np.stack(waves) + random.normal(0, 3, (channels, size, size))).astype(np.uint8)


def flat(value: float, size: int = 64) -> np.ndarray:
    return np.full((1, size, size), round(value * 65535), np.uint16)


@pytest.fixture(params=["albumentations", "torch"])
def executor(request: pytest.FixtureRequest) -> executors.Executor:
    return request.param


Views = Callable[..., list[np.ndarray]]


@pytest.fixture
def views(executor: executors.Executor) -> Views:
    """views(operations, image, number, size): the first views of an image, in bytes where the image is."""

    def made(operations: list[Operation], image: np.ndarray, number: int = 60, size: int = 64) -> list[np.ndarray]:
        make = executors.make(executor, operations, size)
        found = [make(image, (0, 0, 0, view)) for view in range(number)]
        in_bytes = executor == "torch" and image.dtype == np.uint8
        return [np.rint(255 * view).astype(np.uint8) for view in found] if in_bytes else found

    return made


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        ("auto", "cpu", "albumentations"),
        ("auto", "cuda", "torch"),
        ("albumentations", "cuda", "albumentations"),
        ("torch", "cpu", "torch"),
    ],
)
def test_auto_is_torch_on_a_gpu_and_what_is_asked_for_stays(asked: executors.Executor, device: str, expected: str) -> None:
    assert executors.choose_executor(asked, device) == expected


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: type(operation).__name__)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shape_type_and_range_hold_and_the_stored_image_stays(
    executor: executors.Executor, operation: Operation, channels: int, dtype: type
) -> None:
    image = (scene(channels, 48) * dtype(np.iinfo(dtype).max // 255)).astype(dtype)
    image.flags.writeable = False  # as the store's memory map is
    before = image.copy()
    make = executors.make(executor, [operation], 32)
    in_bytes = executor == "albumentations" and dtype is np.uint8
    for number in range(5):
        view = make(image, (0, 0, 0, number))
        assert view.shape == (channels, 32, 32)
        assert view.dtype == (np.uint8 if in_bytes else np.float32)
        assert 0 <= view.min() <= view.max() <= (255 if in_bytes else 1)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: type(operation).__name__)
def test_eight_and_sixteen_bits_of_one_image_give_one_view(views: Views, operation: Operation) -> None:
    image = scene(3)
    for eight, sixteen in zip(views([operation], image, 5), views([operation], image.astype(np.uint16) * 257, 5), strict=True):
        assert np.abs(eight - 255 * sixteen).max() <= 10  # hue is kept in steps of 1.4 degrees at 8 bits
        assert np.abs(eight - 255 * sixteen).mean() <= 2


def test_the_key_alone_decides_and_each_part_of_it_counts(executor: executors.Executor) -> None:
    image, make = scene(), executors.make(executor, EVERY, 64)
    keys = [(s, t, r, v) for s in (0, 1) for t in (0, 1) for r in (0, 1) for v in (0, 1)]
    first = {key: make(image, key).tobytes() for key in keys}
    assert len(set(first.values())) == len(keys)
    again = pickle.loads(pickle.dumps(make))  # noqa: S301
    assert {key: again(image, key).tobytes() for key in reversed(keys)} == first


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_colour_jitter_on_the_cpu_is_that_of_torchvision(order: tuple[int, ...], dtype: type) -> None:
    """In float32 to 1/3000 of the range; in bytes to what rounding after each of the four steps leaves."""
    full, strict = (255, 6) if dtype is np.uint8 else (1, 3e-4)
    names, amounts = ("brightness", "contrast", "saturation", "hue"), (1.3, 0.6, 1.4, -0.1)
    steps = [getattr(albumentations_executor, f"_{name}") for name in names]
    found = (scene(3).transpose(1, 2, 0) / 255 * full).astype(dtype)
    expected = torch.from_numpy(scene(3) / 255).float()
    for kind in order:
        found = steps[kind](found, amounts[kind])
        expected = getattr(torchvision, f"adjust_{names[kind]}")(expected, amounts[kind])
    off = np.abs(found.transpose(2, 0, 1) - full * expected.numpy())
    assert off.max() <= strict
    assert off.mean() <= strict / 6


def test_operations_draw_independently_of_each_other(views: Views) -> None:
    """albumentations' own seeding gives each transform the same numbers: both flips or none."""
    image = scene()
    turned = views([HorizontalFlip(0.5), VerticalFlip(0.5)], image, 400)
    for expected in (image, image[:, :, ::-1], image[:, ::-1], image[:, ::-1, ::-1]):
        assert 60 < sum(np.array_equal(view, expected) for view in turned) < 140  # 100 +- 4.6 sigma


def test_no_operation_at_all_resizes_only(views: Views) -> None:
    np.testing.assert_array_equal(views([], scene(), 1)[0], scene())
    assert views([], scene(), 1, size=20)[0].shape == (1, 20, 20)


def test_a_crop_is_a_box_of_the_given_area_and_aspect_anywhere_in_the_image(views: Views) -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint16) * 300, (200, 200))
    where = np.stack([ramp, ramp.T, ramp])  # channel 0 tells the column, channel 1 the row
    boxes = []
    for view in views([ResizedCrop((0.25, 0.5), (0.5, 2.0))], where, 200, size=50):
        x, y = np.rint(view[0] * 65535 / 300), np.rint(view[1] * 65535 / 300)
        boxes.append([x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1])
    left, top, width, height = np.transpose(boxes)
    area, aspect = width * height / 200**2, width / height
    assert 0.22 < area.min() < 0.28
    assert 0.47 < area.max() < 0.52
    assert abs(area.mean() - 0.375) < 0.03
    assert 0.45 < aspect.min() < 0.6
    assert 1.7 < aspect.max() < 2.2
    assert left.min() < 5
    assert (left + width).max() > 195
    assert top.min() < 5
    assert (top + height).max() > 195


def test_a_rotation_stays_within_its_angle_turns_both_ways_and_fills_with_black(views: Views) -> None:
    image = np.full((1, 101, 101), 40, np.uint8)
    image[0, 49:52, 89:92] = 255  # 40 pixels to the right of the centre
    angles = []
    for view in views([Rotation(10, 1)], image, 100, size=101):
        y, x = np.nonzero(view[0] > 120)
        angles.append(np.degrees(np.arctan2(50 - y.mean(), x.mean() - 50)))
        assert view.min() == 0 or abs(angles[-1]) < 2  # a small turn blends the border
    assert np.abs(angles).max() < 10.7
    assert min(angles) < -8
    assert max(angles) > 8


def test_brightness_and_contrast_are_an_offset_and_a_gain(views: Views) -> None:
    dark, bright = (np.array([view.mean() for view in views([BrightnessContrast(0.2, 0.0, 1)], flat(v))]) for v in (0.3, 0.6))
    np.testing.assert_allclose(bright - dark, 0.3, atol=1e-3)
    assert dark.min() >= 0.1 - 1e-3
    assert dark.max() <= 0.5 + 1e-3
    assert np.ptp(dark) > 0.3
    dark, bright = (np.array([view.mean() for view in views([BrightnessContrast(0.0, 0.5, 1)], flat(v))]) for v in (0.2, 0.4))
    np.testing.assert_allclose(bright, 2 * dark, atol=1e-3)
    assert np.ptp(dark) > 0.15


def test_gamma_is_a_power(views: Views) -> None:
    np.testing.assert_allclose(views([Gamma((2.0, 2.0), 1)], flat(0.25), 1)[0], 0.0625, atol=1e-4)


def test_blur_has_its_standard_deviation_as_a_share_of_the_edge(views: Views) -> None:
    point = np.zeros((1, 65, 65), np.uint16)
    point[0, 32, 32] = 65535
    for size, sigma in ((65, 0.04), (65, 0.08)):
        view = views([Blur((sigma, sigma), 1)], point, 1, size)[0][0]
        distance = (np.arange(size) - size // 2) ** 2
        spread = np.sqrt((view.sum(0) * distance).sum() / view.sum())
        assert spread == pytest.approx(sigma * size, rel=0.05)


def test_noise_has_its_standard_deviation_and_no_bias(views: Views) -> None:
    view = views([Noise((0.05, 0.05), 1)], flat(0.5, 256), 1, 256)[0]
    assert view.std() == pytest.approx(0.05, rel=0.02)
    assert view.mean() == pytest.approx(0.5, abs=0.001)
    assert np.corrcoef(view[0, :, 1:].ravel(), view[0, :, :-1].ravel())[0, 1] == pytest.approx(0, abs=0.02)


def test_a_cut_out_is_one_black_box_of_its_size(views: Views) -> None:
    for view in views([CutOut((0.25, 0.5), 1)], flat(0.5), 20):
        rows, columns = np.nonzero(view[0].min(1) == 0)[0], np.nonzero(view[0].min(0) == 0)[0]
        assert 16 <= len(rows) <= 32
        assert 16 <= len(columns) <= 32
        assert (view == 0).sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_a_cut_out_lies_anywhere_in_the_image(views: Views) -> None:
    corners = [np.argwhere(view[0] == 0)[0] for view in views([CutOut((0.75, 0.75), 1)], flat(0.5, 16), 200, 16)]
    for side in np.transpose(corners):
        assert set(side.tolist()) == {0, 1, 2, 3, 4}
        assert np.bincount(side).min() > 18  # of 40 +- 4 sigma


def test_greyscale_weighs_the_colours_as_television_does(views: Views) -> None:
    image = np.full((3, 8, 8), np.array([200, 100, 50]).reshape(3, 1, 1), np.uint8)
    assert np.unique(views([Greyscale(1)], image, 1, 8)[0]).tolist() == [124]  # 0.299 R + 0.587 G + 0.114 B = 124.2


def test_colour_jitter_moves_the_hue_of_colours_and_leaves_grey_alone(views: Views) -> None:
    red = np.full((3, 8, 8), np.array([200, 0, 0]).reshape(3, 1, 1), np.uint8)
    hues = {tuple(view[:, 0, 0].tolist()) for view in views([ColourJitter(0, 0, 0, 0.1, 1)], red, 20, 8)}
    assert len(hues) > 10
    assert all(r == 200 and min(g, b) == 0 and max(g, b) <= 125 for r, g, b in hues)  # 36 degrees of the circle: 120 of 200
    grey = np.full((3, 8, 8), 77, np.uint8)
    assert {view.tobytes() for view in views([ColourJitter(0, 0, 0.4, 0.1, 1)], grey, 20, 8)} == {grey.tobytes()}


@pytest.mark.slow
def test_colour_jitter_changes_contrast_before_hue_as_often_as_after_it(views: Views) -> None:
    """One colour moves towards its grey by contrast: that of red, 0.299, or that of the colour it was turned to."""
    red = np.zeros((3, 4, 4), np.uint16)
    red[0] = 65535
    colours = np.stack([view[:, 0, 0] for view in views([ColourJitter(0, 0.5, 0, 0.2, 1)], red, 800, 4)])
    contrast = np.ptp(colours, axis=1)
    turned, grey = contrast < 0.95, colours.min(1) / np.maximum(1 - contrast, 1e-6)
    assert turned.sum() > 300
    share = (np.abs(grey - 0.299) < 1e-3)[turned].mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(turned.sum())


@pytest.mark.parametrize("operation", EVERY[1:], ids=lambda operation: type(operation).__name__)
def test_p_is_the_share_of_views_that_are_changed(views: Views, operation: Operation) -> None:
    image = scene(3)
    changed = sum(not np.array_equal(view, image) for view in views([replace(operation, p=0.3)], image, 300))
    assert 60 < changed < 122  # 90 +- 4 sigma
