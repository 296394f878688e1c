"""Files that were damaged at random: each is read or refused with a reason, in the workers that a preparation reads files in,
because GDCM may end the process in which it meets one."""

import random
from pathlib import Path

import numpy as np
import pytest
from dicoms import shipped
from PIL import Image

from medssl.config import Data, Limits
from medssl.data.decode import RecordReader
from medssl.data.workers import run_in_workers
from medssl.errors import ReadError
from medssl.types import Record


def damaged(whole: bytes, seed: int) -> bytes:
    """Some bytes replaced, mostly near the start where the headers are, and sometimes the end cut off."""
    dice, data = random.Random(seed), bytearray(whole)  # noqa: S311 - the same damage every time
    for _ in range(dice.choice((1, 3, 10, 50))):
        data[dice.randrange(min(len(data), dice.choice((300, 2000, len(data)))))] = dice.randrange(256)
    return bytes(data[: dice.randrange(len(data))] if dice.random() < 0.2 else data)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "examples_palette.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "image_dfl.dcm",
        "a.png",
        "a.tif",
        "a.bmp",
        "a.npz",
    ],
)
def test_a_damaged_file_is_read_or_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 30, 3), np.uint8)
    if name == "a.npz":
        np.savez_compressed(tmp_path / name, x=pixels)
    elif name.startswith("a."):
        Image.fromarray(pixels[0]).save(tmp_path / name)
    file = tmp_path / name if name.startswith("a.") else shipped(name)
    reader, suffix = ("npz", "#x") if name == "a.npz" else ("raster", "") if name.startswith("a.") else ("dicom", "")
    for seed in range(50):
        (tmp_path / f"damaged{seed}").write_bytes(damaged(file.read_bytes(), seed))
    records = [Record(f"damaged{seed}{suffix}", reader) for seed in range(50)]
    found = list(run_in_workers(RecordReader, (tmp_path, Data()), records, Limits()))
    assert len(found) == 50
    for image in found:
        if isinstance(image, ReadError):
            assert image.detail
            assert str(tmp_path) not in str(image)
        else:
            assert image.pixels.dtype == np.float32
            assert image.pixels.shape[0] in (1, 3)
            assert 0 <= image.pixels.min() <= image.pixels.max() <= 1
