import csv
import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SegmentationStorage,
)

from medssl.config import Limits
from medssl.data.readers import _decoders, _gdcm, dicom
from medssl.data.readers._gdcm import Gdcm
from medssl.errors import ReadError

Write = Callable[..., Path]
READER = dicom.build(dicom.Config())
RAW = dicom.build(dicom.Config(window="none"))


def shipped(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path, f"{name} is no longer shipped with pydicom"
    return Path(str(path))


def reason(path: Path, index: int = 0, reader: dicom.Reader = READER) -> str:
    with pytest.raises(ReadError) as caught:
        reader.read(path, index)
    assert caught.value.detail
    return caught.value.reason


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


def test_junk_above_the_stored_bits_is_masked(write_dicom: Write, scene: np.ndarray) -> None:
    stored = np.rint(scene * 4095).astype(np.uint16)
    np.testing.assert_allclose(READER.read(write_dicom(stored | 0xA000, 12)).pixels, stored[None] / 4095, atol=1e-6)


def test_each_frame_of_a_multi_frame_file_is_its_own_image_in_rows_and_columns(write_dicom: Write, scene: np.ndarray) -> None:
    frames = np.stack([np.rint(scene * 255), np.rint(scene[::-1] * 200), np.rint(scene * 100)]).astype(np.uint8)
    path = write_dicom(frames, 8)
    for index in range(3):
        np.testing.assert_allclose(READER.read(path, index).pixels, frames[index][None] / 255, atol=1e-6)
    assert reason(path, 3) == "bad_header"


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


def test_a_radiograph_without_preamble_and_meta_reads_as_the_one_with_them(shared_data: Path) -> None:
    folder = shared_data / "dicom/chest"
    with_header, without = (READER.read(folder / name) for name in ("CR-MONO1-10-chest.dcm", "CR-MONO1-10-chest_noheader"))
    np.testing.assert_array_equal(with_header.pixels, without.pixels)
    assert with_header.bits == 10


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


def test_pixels_cut_short_are_truncated_pixels(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint16), 8)
    path.write_bytes(path.read_bytes()[:-10])
    assert reason(path) == "truncated_pixels"
    assert reason(shipped("MR_truncated.dcm")) == "truncated_pixels"


def test_a_last_frame_cut_short_leaves_the_first_readable(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.stack([np.rint(scene * 255).astype(np.uint8)] * 2), 8)
    path.write_bytes(path.read_bytes()[:-10])
    assert READER.read(path, 0).pixels.shape == (1, 24, 40)
    assert reason(path, 1) == "truncated_pixels"


def test_bytes_behind_the_pixels_do_not_replace_missing_ones(write_dicom: Write, scene: np.ndarray) -> None:
    stored = np.rint(scene * 255).astype(np.uint8)
    path = write_dicom(stored[:20], 8, Rows=24, DataSetTrailingPadding=b"\0" * 500)
    assert reason(path) == "truncated_pixels"


@pytest.mark.parametrize("name", ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm", "reportsi.dcm"])
def test_objects_without_pixels_are_no_pixels(name: str) -> None:
    assert reason(shipped(name)) == "no_pixels"


def test_a_dicomdir_has_no_pixels(shared_data: Path) -> None:
    assert reason(shared_data / "dicom/odd/DICOMDIR") == "no_pixels"


@pytest.mark.parametrize("name", ["liver_1frame.dcm", "rtdose.dcm"])
def test_masks_and_doses_are_no_images(name: str) -> None:
    assert reason(shipped(name)) == "not_an_image"


def test_a_segmentation_is_no_image_even_with_eight_bits(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, SOPClassUID=SegmentationStorage)
    assert reason(path) == "not_an_image"


@pytest.mark.parametrize("name", ["no_meta.dcm", "README.txt", "zipMR.gz"])
def test_files_that_pydicom_can_be_forced_to_read_are_not_dicom(name: str) -> None:
    assert reason(shipped("MR_small.dcm").with_name(name)) == "not_dicom"


def test_a_png_is_not_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    assert reason(tmp_path / "a.dcm") == "not_dicom"


@pytest.mark.parametrize("frames", [b"1A", b"2147483647"])
def test_an_impossible_number_of_frames_is_a_bad_header(write_dicom: Write, scene: np.ndarray, frames: bytes) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8)[None], 8, NumberOfFrames="1234567890")
    path.write_bytes(path.read_bytes().replace(b"1234567890", frames.ljust(10)))
    assert reason(path) == "bad_header"


def test_missing_rows_are_a_bad_header(shared_data: Path) -> None:
    assert reason(shared_data / "dicom/odd/dwv-test_no-number-rows.dcm") == "bad_header"


def test_rows_and_columns_beyond_the_limit_are_refused_before_decoding(
    write_dicom: Write, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, syntax=RLELossless)
    header = pydicom.dcmread(path)
    header.Rows = header.Columns = 65535
    header.save_as(path)
    monkeypatch.setattr(_decoders, "decode", lambda *_: pytest.fail("it was decoded"))
    assert reason(path) == "too_many_pixels"
    small = dicom.build(dicom.Config(limits=Limits(max_pixels=24 * 40 - 1, max_array_bytes=1)))
    assert reason(write_dicom(np.rint(scene * 255).astype(np.uint8), 8), reader=small) == "too_many_pixels"


def test_a_compressed_frame_of_another_size_than_its_header_says_is_a_bad_header(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(np.kron(scene, np.ones((4, 4))) * 255).astype(np.uint8), 8, syntax=JPEG2000Lossless)
    header = pydicom.dcmread(path)
    header.Rows = 3000
    header.save_as(path)
    assert reason(path) == "bad_header"


@pytest.mark.parametrize("name", ["JPLL", "JLSL", "J2KR"])
def test_a_small_frame_that_claims_a_huge_picture_is_refused_before_decoding(
    shared_data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (shared_data / f"dicom/wg04/CT1_{name}").read_bytes()
    pixels = whole.index(b"\xe0\x7f\x10\x00")
    edge, huge = (512).to_bytes(4 if name == "J2KR" else 2, "big"), (60000).to_bytes(4 if name == "J2KR" else 2, "big")
    (tmp_path / "bomb").write_bytes(whole[:pixels] + whole[pixels:].replace(edge * 2, huge * 2, 1))
    monkeypatch.setattr(_decoders, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ReadError, match="bad_header: the compressed frame has 60000 x 60000 pixels, not 512 x 512"):
        READER.read(tmp_path / "bomb")


@pytest.mark.parametrize("name", ["JPLL", "JLSL", "J2KR", "RLE"])
def test_half_a_compressed_file_is_truncated_pixels(shared_data: Path, tmp_path: Path, name: str) -> None:
    whole = (shared_data / f"dicom/wg04/CT1_{name}").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    assert reason(tmp_path / "half") == "truncated_pixels"


def test_a_damaged_stream_is_undecodable(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "dicom/wg04/CT1_JPLL").read_bytes()
    (tmp_path / "damaged").write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    assert reason(tmp_path / "damaged") == "undecodable"


def test_an_image_whose_pixels_are_missing_altogether_is_truncated_pixels(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00")])
    assert reason(path) == "truncated_pixels"


def test_a_frame_that_crashes_its_decoder_costs_that_frame_only(shared_data: Path, tmp_path: Path) -> None:
    """In place of GDCM: a process that aborts at frame 1, as GDCM does on some damaged files."""
    (tmp_path / "decoder.py").write_text(
        _gdcm._SCRIPT.read_text().replace('request["path"]', 'os.abort() if request["index"] else request["path"]')
    )
    gdcm = Gdcm(tmp_path / "decoder.py")
    path = shared_data / "dicom/wg04/CT1_JPLL"
    expected = pydicom.dcmread(shared_data / "dicom/wg04/CT1_UNC").pixel_array
    for _ in range(2):
        np.testing.assert_array_equal(gdcm.decode(path, 0), expected)
        with pytest.raises(ReadError, match="undecodable: the frame crashes GDCM"):
            gdcm.decode(path, 1)


def test_gdcm_is_not_used_where_another_decoder_is_installed(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gdcm, "decode", lambda *_: pytest.fail("GDCM was used"))
    for name in ("CT1_J2KR", "CT1_JLSL", "CT1_RLE"):
        assert READER.read(shared_data / "dicom/wg04" / name).bits == 16
    assert READER.read(shared_data / "dicom/odd/jpeg_baseline_8bit.dcm", 95).bits == 8


def test_twelve_bit_jpeg_names_the_package_that_decodes_it(shared_data: Path) -> None:
    with pytest.raises(ReadError, match=r"missing_decoder: JPEG Extended .*1\.2\.840\.10008\.1\.2\.4\.51.* pip install pylibjpeg-libjpeg"):
        READER.read(shared_data / "dicom/wg04/MR1_JPLY")


@pytest.mark.parametrize(("name", "package"), [("CT1_JLSL", "pyjpegls"), ("CT1_JPLL", "python-gdcm"), ("CT1_J2KR", "pylibjpeg-openjpeg")])
def test_a_decoder_that_is_not_installed_is_named(shared_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(ReadError, match=f"missing_decoder: .* pip install {package}$"):
        READER.read(shared_data / "dicom/wg04" / name)


def test_a_transfer_syntax_that_nothing_decodes_is_undecodable(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, syntax=RLELossless)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.9\0"))
    assert reason(path) in ("undecodable", "bad_header")


def test_a_deflated_bomb_is_refused(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, syntax=DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(whole[:start] + bomb.compress(bytes(5_000_000)) + bomb.flush())
    small = dicom.build(dicom.Config(limits=Limits(max_pixels=1_000_000, max_array_bytes=1)))
    assert reason(path, reader=small) == "deflated_too_big"


def test_a_pipe_does_not_block_and_an_empty_file_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nothing").touch()
    assert reason(tmp_path / "pipe") == "not_a_file"
    assert reason(tmp_path / "nothing") == "empty"
    assert reason(tmp_path / "absent") == "unreadable"
    assert reason(tmp_path) == "not_a_file"


def test_messages_do_not_quote_the_header(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, RescaleSlope="1234567890")
    path.write_bytes(path.read_bytes().replace(b"1234567890", b"CANARY^NAM"))
    with pytest.raises(ReadError) as caught:
        READER.read(path)
    assert "CANARY" not in str(caught.value)
    assert str(path) not in str(caught.value)


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
