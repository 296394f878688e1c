import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medssl.data.readers import dicom, npz, raster
from medssl.errors import ReadError


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
    file = tmp_path / name if name.startswith("a.") else Path(str(get_testdata_file(name, download=False)))
    for seed in range(50):
        (tmp_path / "damaged").write_bytes(damaged(file.read_bytes(), seed))
        try:
            if name == "a.npz":
                image = npz.build(npz.Config()).read(tmp_path / "damaged#x").pixels
            elif name.startswith("a."):
                image = raster.build(raster.Config()).read(tmp_path / "damaged").pixels
            else:
                image = dicom.build(dicom.Config()).read(tmp_path / "damaged").pixels
        except ReadError as error:
            assert error.detail
            assert str(tmp_path) not in str(error)
        else:
            assert image.dtype == np.float32
            assert image.shape[0] in (1, 3)
            assert 0 <= image.min() <= image.max() <= 1
