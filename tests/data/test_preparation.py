import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medssl.data import preparation
from medssl.data.preparation import prepare_image
from medssl.data.readers import raster
from medssl.types import Decoded


@pytest.fixture
def radiograph(shared_data: Path) -> np.ndarray:
    """float32 [1, 1024, 1024]"""
    return raster.build(raster.Config()).read(min((shared_data / "chestxray/nih_originals_1024").rglob("*.png"))).pixels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def decoded(stored: np.ndarray, bits: int = 8) -> Decoded:
    return Decoded(stored.astype(np.float32) / (255 if bits == 8 else 65535), bits)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_size_keeps_its_very_values(channels: int) -> None:
    stored = noise(channels, 64, 64)
    np.testing.assert_array_equal(prepare_image(decoded(stored), 64, 1 if channels == 1 else 3), stored)


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
