import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medssl.config import Limits
from medssl.data.readers import raster
from medssl.errors import ReadError

READER = raster.build(raster.Config())


@pytest.fixture
def grey() -> np.ndarray:
    """uint8 [24, 40], neither square nor symmetric."""
    return np.add.outer(np.arange(24) * 4, np.arange(40) * 3).astype(np.uint8)


def reason(path: Path, index: int = 0, reader: raster.Reader = READER) -> str:
    with pytest.raises(ReadError) as caught:
        reader.read(path, index)
    assert caught.value.detail
    assert str(path) not in str(caught.value)
    return caught.value.reason


def png(path: Path, width: int, height: int, rows: bytes, bits: int = 8, colour: int = 0, interlace: int = 0) -> Path:
    """A PNG written chunk by chunk."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_grey_picture_keeps_its_rows_columns_and_values(tmp_path: Path, grey: np.ndarray, suffix: str) -> None:
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    decoded = READER.read(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(decoded.pixels, grey[None].astype(np.float32) / np.float32(255))
    assert (decoded.pixels.dtype, decoded.bits) == (np.float32, 8)


@pytest.mark.fault("I6")
def test_a_suffix_says_nothing(tmp_path: Path, grey: np.ndarray) -> None:
    Image.fromarray(grey).save(tmp_path / "a.dcm", "PNG")
    assert READER.read(tmp_path / "a.dcm").pixels.shape == (1, 24, 40)


@pytest.mark.fault("I4")
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, grey: np.ndarray, suffix: str) -> None:
    deep = grey.astype(np.uint16) * 257 + 1
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    decoded = READER.read(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(np.rint(decoded.pixels[0] * 65535), deep)
    assert decoded.bits == 16


def test_colour_has_three_channels_and_grey_stored_as_rgb_has_one(tmp_path: Path, grey: np.ndarray) -> None:
    coloured = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)
    Image.fromarray(coloured).save(tmp_path / "colour.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "grey.png")
    np.testing.assert_allclose(READER.read(tmp_path / "colour.png").pixels, np.moveaxis(coloured, -1, 0) / 255, atol=1e-6)
    np.testing.assert_allclose(READER.read(tmp_path / "grey.png").pixels, grey[None] / 255, atol=1e-6)


@pytest.mark.fault("I4", "I5")
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_sixteen_bits_are_kept_and_what_is_transparent_is_black(tmp_path: Path, suffix: str, channels: int) -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (24, 40, channels), np.uint16)
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), stored[..., [2, 1, 0, 3][:channels]])
    expected = stored[..., :3] / 65535 * (stored[..., 3:] / 65535 if channels == 4 else 1)
    decoded = READER.read(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(decoded.pixels, np.moveaxis(expected, -1, 0), atol=1e-6)
    assert decoded.bits == 16


@pytest.mark.fault("I4", "I5")
def test_each_page_of_sixteen_bit_colours_is_upright(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (2, 24, 40, 3), np.uint16)
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), list(stored[..., ::-1]))
    np.testing.assert_allclose(READER.read(tmp_path / "a.tif", 1).pixels, np.moveaxis(stored[1], -1, 0) / 65535, atol=1e-6)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert cv2.imwrite(str(tmp_path / "a.png"), stored[0][..., ::-1])
    content = (tmp_path / "a.png").read_bytes()
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])  # behind IHDR
    upright = np.rot90(stored[0], -1)
    np.testing.assert_allclose(READER.read(tmp_path / "a.png").pixels, np.moveaxis(upright, -1, 0) / 65535, atol=1e-6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.fault("I5")
def test_colours_of_sixteen_bits_on_which_two_decoders_do_not_agree_are_refused(
    tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1).astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    decoded = np.ascontiguousarray(stored)
    decoded[3, 3] ^= 1 << 10
    monkeypatch.setattr(cv2, "imdecodemulti", lambda *given, **options: (True, [decoded]))
    assert reason(tmp_path / "a.png") == "undecodable"


@pytest.mark.fault("I4")
def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 2))
    picture.putdata([0, 1, 2, 1])
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png")
    red = READER.read(tmp_path / "a.png").pixels[0]
    np.testing.assert_array_equal(red, [[1, 0], [0, 0]])


@pytest.mark.fault("I4")
def test_transparency_shows_black(tmp_path: Path) -> None:
    pixels = np.full((2, 3, 4), 200, np.uint8)
    pixels[0, :, 3], pixels[1, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_allclose(READER.read(tmp_path / "a.png").pixels, [[[0, 0, 0], [200 / 255] * 3]], atol=1e-6)


@pytest.mark.fault("I4")
def test_exif_orientation_6_is_turned_upright(tmp_path: Path, grey: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored rows are the picture's columns from right to left
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(READER.read(tmp_path / "a.png").pixels[0], np.rot90(grey, -1) / 255, atol=1e-6)


@pytest.mark.fault("I5")
def test_each_page_of_a_tiff_is_its_own_image(tmp_path: Path, grey: np.ndarray) -> None:
    pages = [Image.fromarray(grey), Image.fromarray(grey[::-1].copy())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_allclose(READER.read(tmp_path / "a.tif", 1).pixels[0], grey[::-1] / 255, atol=1e-6)
    assert reason(tmp_path / "a.tif", 2) == "no_such_page"


@pytest.mark.fault("I5")
def test_float_tiff_is_scaled_by_percentiles_and_nan_is_refused(tmp_path: Path, grey: np.ndarray) -> None:
    values = grey.astype(np.float32) - 50
    Image.fromarray(values).save(tmp_path / "a.tif")
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(READER.read(tmp_path / "a.tif").pixels[0], np.clip((values - low) / (high - low), 0, 1), atol=1e-6)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert reason(tmp_path / "a.tif") == "non_finite"


@pytest.mark.fault("I2")
@pytest.mark.parametrize(("bits", "colour", "row"), [(8, 0, 65), (1, 0, 9), (16, 2, 385), (8, 6, 257)])
def test_a_well_formed_png_with_ten_of_64_rows_is_short_data(tmp_path: Path, bits: int, colour: int, row: int) -> None:
    """`row`: bytes of a row of 64 pixels and its filter, by hand."""
    assert reason(png(tmp_path / "a.png", 64, 64, bytes(10 * row), bits, colour)) == "short_data"
    assert reason(png(tmp_path / "a.png", 64, 64, bytes(63 * row), bits, colour)) == "short_data"
    assert READER.read(png(tmp_path / "a.png", 64, 64, bytes(64 * row), bits, colour)).pixels.shape[1:] == (64, 64)


@pytest.mark.fault("I2")
def test_an_interlaced_png_with_only_its_first_passes_is_short_data(tmp_path: Path) -> None:
    """Adam7, 64 x 64: passes of 8x8, 8x8, 16x8 and 16x16 pixels, each row with a filter byte: 72 + 72 + 136 + 272 bytes."""
    assert reason(png(tmp_path / "a.png", 64, 64, bytes(72 + 72 + 136 + 272), interlace=1)) == "short_data"


def test_an_interlaced_png_that_is_whole_is_read(tmp_path: Path) -> None:
    """By hand for 3 x 2 pixels, Adam7: pass 1 has pixel (0, 0), pass 6 (1, 0), pass 4 (2, 0), pass 7 the second row."""
    rows = b"\0\x0a" + b"\0\x1e" + b"\0\x14" + b"\0\x28\x32\x3c"
    pixels = READER.read(png(tmp_path / "a.png", 3, 2, rows, interlace=1)).pixels[0]
    np.testing.assert_allclose(pixels * 255, [[10, 20, 30], [40, 50, 60]], atol=1e-4)


@pytest.mark.fault("I1")
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_picture_cut_short_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: int(keep * len(whole))])
    assert reason(tmp_path / "cut") in ("truncated", "undecodable", "short_data")


@pytest.mark.fault("I1")
def test_text_is_not_an_image_and_nothing_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("image,label\na.png,1\n")
    assert reason(tmp_path / "a.png") == "not_an_image"
    (tmp_path / "b.png").touch()
    assert reason(tmp_path / "b.png") == "empty"
    os.mkfifo(tmp_path / "c.png")
    assert reason(tmp_path / "c.png") == "not_a_file"
    assert reason(tmp_path / "d.png") == "unreadable"


@pytest.mark.fault("I6")
def test_formats_beyond_those_named_are_not_opened(tmp_path: Path, grey: np.ndarray) -> None:
    Image.fromarray(grey).save(tmp_path / "a.png", "PCX")
    assert reason(tmp_path / "a.png") == "not_an_image"


@pytest.mark.fault("I3")
@pytest.mark.parametrize(("width", "height"), [(9000, 9000), (12000, 12000), (60000, 60000)])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was unpacked"))
    assert reason(png(tmp_path / "a.png", width, height, b"")) == "too_many_pixels"


@pytest.mark.fault("I3")
def test_the_limit_is_the_configured_one(tmp_path: Path, grey: np.ndarray) -> None:
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert reason(tmp_path / "a.png", reader=raster.build(raster.Config(limits=Limits(max_pixels=24 * 40 - 1)))) == "too_many_pixels"
    assert raster.build(raster.Config(limits=Limits(max_pixels=24 * 40))).read(tmp_path / "a.png").bits == 8


def test_real_radiographs_saved_as_rgba_equal_their_grey(shared_data: Path) -> None:
    modes = set()
    for path in sorted((shared_data / "chestxray/nih_originals_1024").rglob("*.png")):
        with Image.open(path) as picture:
            modes.add(picture.mode)
            expected = np.asarray(picture.convert("RGBA"))[..., 0]
        np.testing.assert_array_equal(np.rint(READER.read(path).pixels[0] * 255), expected)
    assert modes == {"L", "RGBA"}


@pytest.mark.fault("I6")
def test_the_formats_are_recognised_by_their_content(tmp_path: Path, grey: np.ndarray) -> None:
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM", "WEBP", "JPEG2000"):
        Image.fromarray(grey).save(tmp_path / "a", kind)
        assert raster.recognises((tmp_path / "a").read_bytes()[:132])
    Image.fromarray(grey).save(tmp_path / "a", "PCX")
    assert not raster.recognises((tmp_path / "a").read_bytes()[:132])
    assert not raster.recognises(b"image,label\n" * 11)


def test_the_limit_on_pixels_is_that_of_the_configuration_and_not_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    assert raster.build(raster.Config()).read(tmp_path / "a.png").pixels.shape == (1, 30, 30)
    assert Image.MAX_IMAGE_PIXELS == 100
