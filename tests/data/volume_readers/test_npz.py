"""Whole volumes of .npz files in the form of MedMNIST."""

from pathlib import Path

import numpy as np
import pytest

from medssl.config import Limits
from medssl.data.volume_readers import npz
from medssl.errors import ReadError
from medssl.types import VolumeFacts

VOLUMES = np.random.default_rng(0).integers(0, 256, (3, 9, 10, 11), np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "a.npz", train_images=VOLUMES, flat_images=VOLUMES[:, 0], deep_images=VOLUMES.astype(np.uint16) * 2)
    return tmp_path


def read(file: Path, key: str, index: int, **options: object):
    return npz.build(npz.Config.model_validate(options)).read(file / f"a.npz#{key}_images", index)


def reason(file: Path, key: str, index: int, **options: object) -> str:
    with pytest.raises(ReadError) as caught:
        read(file, key, index, **options)
    return caught.value.reason


def test_a_row_is_a_volume_with_its_very_values_and_no_known_orientation(file: Path) -> None:
    reader = npz.build(npz.Config())
    for row in (0, 2, 1):
        decoded = reader.read(file / "a.npz#train_images", row)
        np.testing.assert_allclose(decoded.pixels, VOLUMES[row][None] / 255, atol=1e-7)
        assert (decoded.bits, decoded.spacing_mm, decoded.volume) == (8, None, VolumeFacts())


def test_sixteen_bits_are_scaled_by_the_bits_that_are_used(file: Path) -> None:
    np.testing.assert_allclose(read(file, "deep", 1, used_bits=9).pixels[0], VOLUMES[1] * 2.0 / 511, atol=1e-6)


def test_what_is_no_usable_volume_is_refused_with_a_reason(file: Path) -> None:
    assert reason(file, "flat", 0) == "no_volume"
    assert reason(file, "train", 3) == "no_such_row"
    assert reason(file, "train", 0, min_slices=10) == "few_slices"
    assert reason(file, "train", 0, limits=Limits(memory_bytes=1000)) == "too_big"
    np.savez_compressed(file / "a.npz", train_images=np.zeros((1, 9, 9, 9), np.uint8))
    assert reason(file, "train", 0) == "constant"


def test_a_cut_file_is_named_as_damaged(file: Path) -> None:
    content = bytearray((file / "a.npz").read_bytes())
    content[200:1200] = bytes(1000)
    (file / "a.npz").write_bytes(content)
    assert reason(file, "train", 2) == "truncated"
