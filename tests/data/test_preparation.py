import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medssl.config import Data
from medssl.data import preparation
from medssl.data.preparation import Preparation
from medssl.data.readers import raster
from medssl.errors import ReadError, UserError
from medssl.types import Decoded


@pytest.fixture
def radiograph(shared_data: Path) -> np.ndarray:
    """float32 [1, 1024, 1024]"""
    return raster.build(raster.Config()).read(min((shared_data / "chestxray/nih_originals_1024").rglob("*.png"))).pixels


def prepare_image(image: Decoded, size: int, channels: int, **settings: Any) -> np.ndarray:
    return Preparation(Data.model_validate({"size": size, "channels": channels, **settings}))(image)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def decoded(stored: np.ndarray, bits: int = 8) -> Decoded:
    return Decoded(stored.astype(np.float32) / (255 if bits == 8 else 65535), bits)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_size_keeps_its_very_values(channels: int) -> None:
    stored = noise(channels, 64, 64)
    np.testing.assert_array_equal(prepare_image(decoded(stored), 64, channels), stored)


def test_sixteen_bits_keep_their_very_values() -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (1, 32, 32)).astype(np.uint16)
    prepared = prepare_image(decoded(stored, 12), 32, 1)
    assert prepared.dtype == np.uint16
    np.testing.assert_array_equal(prepared, stored)


@pytest.mark.parametrize("size", [448, 224, 101, 28])
def test_shrinking_equals_pillows_antialiased_filter(radiograph: np.ndarray, size: int) -> None:
    expected = np.asarray(Image.fromarray(radiograph[0]).resize((size, size), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(prepare_image(Decoded(radiograph, 8), size, 1)[0], np.rint(expected * 255), atol=1)


def test_shrinking_does_not_alias() -> None:
    """Stripes of one pixel have the mean 0.5; without antialiasing every fourth of them is all that is seen."""
    stripes = np.tile(np.array([0, 1], np.float32), (1, 256, 128))
    inner = prepare_image(Decoded(stripes, 8), 64, 1)[0, 2:-2, 2:-2]
    assert abs(inner.astype(int) - 127.5).max() <= 1.5


def test_enlarging_equals_pillows_bilinear_filter(shared_data: Path) -> None:
    small = np.load(shared_data / "medmnist/pneumoniamnist.npz")["test_images"][0].astype(np.float32) / 255
    expected = np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(prepare_image(Decoded(small[None], 8), 64, 1)[0], np.rint(expected * 255), atol=1)


@pytest.mark.parametrize(("height", "width"), [(300, 200), (200, 300), (101, 100), (1000, 3)])
def test_the_whole_picture_is_kept_between_black_bars(height: int, width: int) -> None:
    prepared = prepare_image(Decoded(np.ones((1, height, width), np.float32), 8), 100, 1)[0]
    kept = np.argwhere(prepared == 255)
    rows, columns = (kept.max(0) - kept.min(0) + 1).tolist()
    assert (rows, columns) == (round(100 * height / max(height, width)), max(1, round(100 * width / max(height, width))))
    assert (prepared > 0).sum() == rows * columns
    for low, high in zip(kept.min(0), 99 - kept.max(0), strict=True):
        assert abs(int(low) - int(high)) <= 1


def test_colour_to_grey_is_the_luminance_of_pillow_and_grey_to_colour_repeats() -> None:
    stored = noise(3, 32, 32)
    expected = np.asarray(Image.fromarray(np.moveaxis(stored, 0, -1)).convert("L"))
    np.testing.assert_allclose(prepare_image(decoded(stored), 32, 1)[0], expected, atol=1)
    np.testing.assert_array_equal(prepare_image(decoded(stored[:1]), 32, 3), np.repeat(stored[:1], 3, axis=0))


def test_preparing_takes_milliseconds(radiograph: np.ndarray) -> None:
    image = Decoded(np.ascontiguousarray(radiograph[:, :224, :224]), 8)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        prepare_image(image, 224, 1)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.005


@pytest.mark.filterwarnings("ignore")
def test_the_monai_compose_gives_the_same_image(radiograph: np.ndarray) -> None:
    image = radiograph[:, :700]
    composed = np.asarray(preparation.as_compose(96, 1)(torch.from_numpy(np.ascontiguousarray(image))))
    np.testing.assert_array_equal(np.rint(composed * 255), prepare_image(Decoded(np.ascontiguousarray(image), 8), 96, 1))


def test_pixels_that_are_not_square_become_square() -> None:
    """A square of 10 mm, with rows of 0.5 mm and columns of 1 mm, is 20 x 10 pixels."""
    image = np.zeros((1, 40, 20), np.float32)
    image[:, 10:30, 5:15] = 1
    prepared = prepare_image(Decoded(image, 8, (0.5, 1.0)), 40, 1)[0]
    rows, columns = np.argwhere(prepared > 127).T
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 20)


@pytest.mark.parametrize(("size", "expected"), [(64, (40, 20)), (32, (32, 20)), (16, (16, 16))])
def test_one_scale_for_all_pads_or_cuts_at_the_border(size: int, expected: tuple[int, int]) -> None:
    image = Decoded(np.ones((1, 40, 20), np.float32), 8, (2.0, 2.0))
    prepared = prepare_image(image, size, 1, spacing_mm=2.0)[0]
    assert ((prepared > 0).any(1).sum(), (prepared > 0).any(0).sum()) == expected
    finer = prepare_image(image, 128, 1, spacing_mm=1.0)[0]
    assert ((finer > 0).any(1).sum(), (finer > 0).any(0).sum()) == (80, 40)


def test_a_scale_cannot_be_asked_of_an_image_without_one_nor_of_an_absurd_header() -> None:
    with pytest.raises(ReadError, match="no_spacing"):
        prepare_image(Decoded(np.ones((1, 4, 4), np.float32), 8), 32, 1, spacing_mm=1.0)
    with pytest.raises(ReadError, match="bad_header"):
        prepare_image(Decoded(np.ones((1, 4, 4), np.float32), 8, (1e9, 1.0)), 32, 1, spacing_mm=1.0)


def test_two_channels_become_no_others() -> None:
    with pytest.raises(ReadError, match="bad_channels: 2 channels, wanted are 3"):
        prepare_image(Decoded(np.ones((2, 4, 4), np.float32), 8), 32, 3)
    assert prepare_image(Decoded(np.ones((2, 4, 4), np.float32), 8), 32, 2).shape == (2, 32, 32)


@pytest.mark.fault("S15")
@pytest.mark.filterwarnings("ignore")
def test_allowed_monai_transforms_come_before_fitting_and_nothing_else_is_called() -> None:
    image = Decoded(np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16), 8)
    darker = prepare_image(image, 16, 1, transforms=[{"name": "monai.transforms.AdjustContrast", "gamma": 2}])
    np.testing.assert_allclose(darker / 255, image.pixels**2, atol=1 / 255)
    for name in ("monai.transforms.Lambda", "os.system", "monai.transforms.LoadImage"):
        with pytest.raises(UserError, match="not among the transforms that are allowed"):
            prepare_image(image, 16, 1, transforms=[{"name": name}])
    with pytest.raises(UserError, match="does not take"):
        prepare_image(image, 16, 1, transforms=[{"name": "monai.transforms.AdjustContrast", "gama": 2}])
    assert all(hasattr(importlib.import_module("monai.transforms"), name.rpartition(".")[2]) for name in preparation.ALLOWED)
