"""Pages of TIFF and GIF files: read one after another from one open file, in any order, with equal pixels."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medssl.data.readers import raster
from medssl.errors import ReadError


@pytest.fixture
def grey() -> np.ndarray:
    """uint8 [24, 40], neither square nor symmetric."""
    return np.add.outer(np.arange(24) * 4, np.arange(40) * 3).astype(np.uint8)


def write_pages(path: Path, pages: list[np.ndarray], **options: str) -> Path:
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.fault("I8")
@pytest.mark.parametrize(("suffix", "options"), [("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("gif", {})])
def test_pages_are_equal_in_any_order_and_are_found_without_a_walk_from_the_start(
    tmp_path: Path, grey: np.ndarray, suffix: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [np.roll(grey, step, axis=1)[: 24 - step % 3 * (suffix == "tif")] for step in range(12)]
    path = write_pages(tmp_path / f"a.{suffix}", pages, **options)
    alone = [raster.build(raster.Config()).read(path, index) for index in range(12)]  # each by a reader of its own
    np.testing.assert_array_equal(
        [np.array_equal(one.pixels[0], page / np.float32(255)) for one, page in zip(alone, pages, strict=True)], True
    )
    opened: list[object] = []
    open_picture = Image.open
    monkeypatch.setattr(raster.Image, "open", lambda *given, **named: opened.append(given) or open_picture(*given, **named))
    reader = raster.build(raster.Config())
    for index in (*range(12), 3, 11, 0):
        np.testing.assert_array_equal(reader.read(path, index).pixels, alone[index].pixels)
    assert len(opened) == 1, "a file that is opened for each page is walked from its start each time"
    with pytest.raises(ReadError, match="no_such_page"):
        reader.read(path, 12)
    write_pages(path, pages[::-1], **options)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(reader.read(path, 0).pixels, alone[11].pixels, "a file that was changed is opened again")


@pytest.mark.fault("I8")
def test_a_damaged_page_costs_itself(tmp_path: Path, grey: np.ndarray) -> None:
    path = write_pages(tmp_path / "a.tif", [grey] * 5, compression="tiff_adobe_deflate")
    content = path.read_bytes()
    with Image.open(path) as picture:
        picture.seek(2)
        start = picture.tag_v2[273][0]  # pyright: ignore[reportAttributeAccessIssue]
    path.write_bytes(content[:start] + b"\0" * 20 + content[start + 20 :])
    reader = raster.build(raster.Config())
    assert [index for index in range(5) if not _reads(reader, path, index)] == [2]


def _reads(reader: raster.Reader, path: Path, index: int) -> bool:
    try:
        return reader.read(path, index).pixels.shape == (1, 24, 40)
    except ReadError:
        return False


@pytest.mark.fault("I8")
@pytest.mark.parametrize("in_memory", [False, True])
def test_each_page_with_16_bits_for_each_colour_keeps_all_bits(tmp_path: Path, in_memory: bool) -> None:
    pages = [np.random.default_rng(page).integers(0, 65536, (16, 20, 3)).astype(np.uint16) for page in range(4)]
    cv2.imwritemulti(str(tmp_path / "a.tif"), pages)
    before = (tmp_path / "a.tif").read_bytes()
    reader = raster.build(raster.Config())
    for index in (0, 1, 2, 3, 1):
        found = reader.read_stream(io.BytesIO(before), index) if in_memory else reader.read(tmp_path / "a.tif", index)
        np.testing.assert_array_equal(found.pixels * 65535, pages[index][..., ::-1].transpose(2, 0, 1))
    assert (tmp_path / "a.tif").read_bytes() == before, "the file is read through a private copy"
