import csv
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import READER, reason, shipped
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from medssl.data.readers import dicom
from medssl.errors import ReadError

Write = Callable[..., Path]
RAW = dicom.build(dicom.Config(window="none"))


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_an_uncompressed_file_reads_alike_in_every_encoding(write_dicom: Write, scene: np.ndarray, syntax: str | None) -> None:
    stored = np.rint(scene * 4095).astype(np.uint16)
    decoded = READER.read(write_dicom(stored, 12, syntax=syntax))
    np.testing.assert_allclose(decoded.pixels, stored[None] / 4095, atol=1e-6)
    assert decoded.pixels.dtype == np.float32
    assert decoded.bits == 12


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_losslessly_compressed_file_reads_as_the_uncompressed_one(write_dicom: Write, scene: np.ndarray, syntax: str) -> None:
    stored = np.rint(np.kron(scene, np.ones((4, 4))) * 4095).astype(np.uint16)
    np.testing.assert_allclose(READER.read(write_dicom(stored, 12, syntax=syntax)).pixels, stored[None] / 4095, atol=1e-6)


@pytest.mark.fault("D10")
def test_junk_above_the_stored_bits_is_masked(write_dicom: Write, scene: np.ndarray) -> None:
    stored = np.rint(scene * 4095).astype(np.uint16)
    np.testing.assert_allclose(READER.read(write_dicom(stored | 0xA000, 12)).pixels, stored[None] / 4095, atol=1e-6)


@pytest.mark.fault("D5")
def test_each_frame_of_a_multi_frame_file_is_its_own_image_in_rows_and_columns(write_dicom: Write, scene: np.ndarray) -> None:
    frames = np.stack([np.rint(scene * 255), np.rint(scene[::-1] * 200), np.rint(scene * 100)]).astype(np.uint8)
    path = write_dicom(frames, 8)
    for index in range(3):
        np.testing.assert_allclose(READER.read(path, index).pixels, frames[index][None] / 255, atol=1e-6)
    assert reason(path, 3) == "bad_header"


@pytest.mark.fault("D5", "D9")
def test_a_frame_of_a_compressed_cine_equals_the_frame_that_pydicom_decodes() -> None:
    path = shipped("examples_ybr_color.dcm")
    expected = pydicom.dcmread(path).pixel_array[17] / 255  # 30 x 240 x 320 x 3, YBR turned to RGB by pydicom
    np.testing.assert_allclose(np.moveaxis(READER.read(path, 17).pixels, 0, -1), expected, atol=1e-6)


def test_colour_stays_colour_and_grey_that_claims_rgb_has_one_channel(write_dicom: Write, scene: np.ndarray) -> None:
    grey = np.rint(scene * 255).astype(np.uint8)
    coloured = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)
    assert READER.read(write_dicom(coloured, 8, colour=True)).pixels.shape == (3, 24, 40)
    np.testing.assert_allclose(READER.read(write_dicom(coloured, 8, colour=True)).pixels[1], grey[::-1] / 255, atol=1e-6)
    np.testing.assert_allclose(READER.read(write_dicom(np.stack([grey] * 3, axis=-1), 8, colour=True)).pixels, grey[None] / 255, atol=1e-6)


def test_sixteen_bit_colour_is_scaled_by_its_stored_bits(shared_data: Path) -> None:
    path = shared_data / "dicom/pydicom-data/SC_rgb_16bit.dcm"
    np.testing.assert_allclose(np.moveaxis(READER.read(path).pixels, 0, -1), pydicom.dcmread(path).pixel_array / 65535, atol=1e-6)


@pytest.mark.fault("D9")
@pytest.mark.parametrize("name", ["examples_palette.dcm"])
def test_a_palette_becomes_the_colours_it_names(name: str) -> None:
    header = pydicom.dcmread(shipped(name))
    row, column = np.unravel_index(np.argmax(header.pixel_array), header.pixel_array.shape)
    entry = int(header.pixel_array[row, column]) - header.RedPaletteColorLookupTableDescriptor[1]
    tables = [header[f"{colour}PaletteColorLookupTableData"].value for colour in ("Red", "Green", "Blue")]
    expected = [struct.unpack_from("<H", table, 2 * entry)[0] / 65535 for table in tables]
    np.testing.assert_allclose(READER.read(shipped(name)).pixels[:, row, column], expected, atol=1e-6)


def test_stored_values_of_the_real_files_come_back_from_the_unit_range(shared_data: Path) -> None:
    """The md5 sums were taken from pydicom's arrays; files with padding, tables or colour cannot be turned back."""
    with (shared_data / "expected_dicom.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok" and row["dtype"] in ("uint8", "uint16", "int16")]
    done = 0
    for row in rows:
        allocated, bits = (int(part) for part in row["bits"].split("/"))
        header = pydicom.dcmread(shared_data / row["path"], stop_before_pixels=True, force=True)
        plain = bits > 1 and "MONO" in row["photometric"] and not row["path"].startswith("dicom/tiny")  # frames of one value
        lossy = row["transfer_syntax"].endswith(".50")  # decoders differ by a grey level
        if not plain or lossy or any(name in header for name in ("PixelPaddingValue", "ModalityLUTSequence")):
            continue
        low = -(2 ** (bits - 1)) if row["signed"] == "1" else 0
        frames = [RAW.read(shared_data / row["path"], index).pixels[0] for index in range(int(row["frames"] or 1))]
        grey = np.asarray(frames if len(frames) > 1 else frames[0], np.float64)
        grey = 1 - grey if row["photometric"] == "MONOCHROME1" else grey
        stored = np.rint(grey * (2**bits - 1) + low).astype(row["dtype"])
        assert "x".join(map(str, stored.shape)) == row["shape"]
        assert stored.dtype.itemsize * 8 == allocated
        assert hashlib.md5(stored.tobytes(), usedforsecurity=False).hexdigest() == row["md5"], row["path"]
        done += 1
    assert done >= 23


def test_every_lossless_form_of_one_picture_gives_equal_pixels(shared_data: Path) -> None:
    folder = shared_data / "dicom/wg04"
    for group in (["CT1_UNC", "CT1_RLE", "CT1_JPLL", "CT1_JLSL", "CT1_J2KR"], ["MR1_UNC", "MR1_RLE", "MR1_JPLL", "MR1_J2KR"]):
        first, *others = [READER.read(folder / name).pixels for name in group]
        for other in others:
            np.testing.assert_array_equal(first, other)


@pytest.mark.fault("D9")
def test_planes_and_pixels_of_colour_are_one_picture_and_ybr_becomes_rgb(shared_data: Path) -> None:
    folder = shared_data / "dicom/pydicom-data"
    np.testing.assert_array_equal(READER.read(folder / "color-pl.dcm").pixels, READER.read(folder / "color-px.dcm").pixels)
    header = pydicom.dcmread(folder / "SC_ybr_full_uncompressed.dcm")
    y, cb, cr = np.moveaxis(np.frombuffer(header.PixelData, np.uint8)[: 100 * 100 * 3].reshape(100, 100, 3).astype(float), -1, 0)
    rgb = np.stack([y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)])  # C.7.6.3.1.2
    np.testing.assert_allclose(READER.read(folder / "SC_ybr_full_uncompressed.dcm").pixels, np.clip(rgb / 255, 0, 1), atol=1 / 255)


@pytest.mark.fault("D11")
def test_bytes_behind_the_pixels_change_nothing() -> None:
    np.testing.assert_array_equal(READER.read(shipped("MR_small_padded.dcm")).pixels, READER.read(shipped("MR_small.dcm")).pixels)


@pytest.mark.fault("D19")
def test_a_program_in_the_preamble_changes_nothing(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8)
    expected = READER.read(path).pixels
    path.write_bytes(b"MZ" + b"\x90" * 126 + path.read_bytes()[128:])
    np.testing.assert_array_equal(READER.read(path).pixels, expected)


def test_the_header_of_many_frames_is_read_once_and_again_when_the_file_changes(
    write_dicom: Write, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(dicom, "dcmread", lambda *args, **kwargs: calls.append(1) or pydicom.dcmread(*args, **kwargs))
    reader = dicom.build(dicom.Config())
    frames = np.stack([np.rint(scene * 255), np.rint(scene[::-1] * 255)]).astype(np.uint8)
    path = write_dicom(frames, 8)
    for index in (0, 1, 0):
        np.testing.assert_allclose(reader.read(path, index).pixels[0], frames[index] / 255, atol=1e-6)
    assert len(calls) == 1
    write_dicom(frames[::-1, :, 1:], 8)
    np.testing.assert_allclose(reader.read(path, 0).pixels[0], frames[1, :, 1:] / 255, atol=1e-6)
    assert len(calls) == 2


@pytest.mark.fault("D12")
def test_a_radiograph_without_preamble_and_meta_reads_as_the_one_with_them(shared_data: Path) -> None:
    folder = shared_data / "dicom/chest"
    with_header, without = (READER.read(folder / name) for name in ("CR-MONO1-10-chest.dcm", "CR-MONO1-10-chest_noheader"))
    np.testing.assert_array_equal(with_header.pixels, without.pixels)
    assert with_header.bits == 10


@pytest.mark.fault("D6")
def test_a_real_monochrome1_chest_has_dark_air_and_a_bright_mediastinum(shared_data: Path) -> None:
    pixels = READER.read(shared_data / "dicom/chest/CR-MONO1-10-chest.dcm").pixels[0]
    raw = pydicom.dcmread(shared_data / "dicom/chest/CR-MONO1-10-chest.dcm").pixel_array
    assert np.corrcoef(pixels.ravel(), raw.ravel())[0, 1] < -0.95


def test_only_elements_of_the_pixels_enter_memory(write_dicom: Write, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = []
    monkeypatch.setattr(dicom, "dcmread", lambda *args, **kwargs: headers.append(pydicom.dcmread(*args, **kwargs)) or headers[-1])
    READER.read(write_dicom(np.rint(scene * 255).astype(np.uint8), 8))
    assert "PatientName" not in headers[0]
    assert "CANARY" not in str(headers[0])


def test_every_shipped_file_is_read_or_refused_with_a_reason() -> None:
    outcomes = {}
    for path in sorted(shipped("MR_small.dcm").parent.iterdir()):
        if path.is_file():
            try:
                pixels = READER.read(path).pixels
                outcomes[path.name] = "ok"
                assert pixels.dtype == np.float32
                assert 0 <= pixels.min() <= pixels.max() <= 1
            except ReadError as error:
                outcomes[path.name] = error.reason
    assert sum(outcome == "ok" for outcome in outcomes.values()) > 40


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_bigendian.dcm", "rtstruct.dcm"])
def test_dicom_is_recognised_by_its_content(name: str) -> None:
    assert dicom.recognises(shipped(name).read_bytes()[:132])


def test_a_file_without_preamble_is_recognised_and_other_formats_are_not(shared_data: Path) -> None:
    assert dicom.recognises((shared_data / "dicom/chest/CR-MONO1-10-chest_noheader").read_bytes()[:132])
    for head in (
        b"\x89PNG\r\n\x1a\n" + bytes(124),
        b"\xff\xd8\xff\xe0" + bytes(128),
        b"image,label\n" * 11,
        b"",
        b"PK\x03\x04" + bytes(128),
    ):
        assert not dicom.recognises(head)
