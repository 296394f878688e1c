import importlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import READER, reason, shipped
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SegmentationStorage,
)

from medssl.config import Data, Limits
from medssl.data.dicom import decoders
from medssl.data.readers import dicom
from medssl.data.workers import end_workers, run_in_workers
from medssl.errors import ReadError
from medssl.types import Record

Write = Callable[..., Path]
RAW = dicom.build(dicom.Config(window="none"))
SMALL = dicom.build(dicom.Config(limits=Limits(max_pixels=1_000_000)))


def bombed(path: Path, preamble: bool) -> Path:
    """The deflated file with 5 MB of zeros in the place of its data set."""
    whole = path.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(whole[0 if preamble else 132 : start] + bomb.compress(bytes(5_000_000)) + bomb.flush())
    return path


@pytest.mark.fault("D1")
def test_pixels_cut_short_are_truncated_pixels(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint16), 8)
    path.write_bytes(path.read_bytes()[:-10])
    assert reason(path) == "truncated_pixels"
    assert reason(shipped("MR_truncated.dcm")) == "truncated_pixels"


@pytest.mark.fault("D1")
def test_a_last_frame_cut_short_leaves_the_first_readable(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.stack([np.rint(scene * 255).astype(np.uint8)] * 2), 8)
    path.write_bytes(path.read_bytes()[:-10])
    assert READER.read(path, 0).pixels.shape == (1, 24, 40)
    assert reason(path, 1) == "truncated_pixels"


def test_bytes_behind_the_pixels_do_not_replace_missing_ones(write_dicom: Write, scene: np.ndarray) -> None:
    stored = np.rint(scene * 255).astype(np.uint8)
    path = write_dicom(stored[:20], 8, Rows=24, DataSetTrailingPadding=b"\0" * 500)
    assert reason(path) == "truncated_pixels"


@pytest.mark.fault("D2")
@pytest.mark.parametrize("name", ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm", "reportsi.dcm"])
def test_objects_without_pixels_are_no_pixels(name: str) -> None:
    assert reason(shipped(name)) == "no_pixels"


def test_a_dicomdir_has_no_pixels(shared_data: Path) -> None:
    assert reason(shared_data / "dicom/odd/DICOMDIR") == "no_pixels"


@pytest.mark.fault("D10")
@pytest.mark.parametrize("name", ["liver_1frame.dcm", "rtdose.dcm"])
def test_masks_and_doses_are_no_images(name: str) -> None:
    assert reason(shipped(name)) == "not_an_image"


def test_a_segmentation_is_no_image_even_with_eight_bits(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, SOPClassUID=SegmentationStorage)
    assert reason(path) == "not_an_image"


@pytest.mark.fault("D12")
@pytest.mark.parametrize("name", ["no_meta.dcm", "README.txt", "zipMR.gz"])
def test_files_that_pydicom_can_be_forced_to_read_are_not_dicom(name: str) -> None:
    assert reason(shipped("MR_small.dcm").with_name(name)) == "not_dicom"


def test_a_png_is_not_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    assert reason(tmp_path / "a.dcm") == "not_dicom"


@pytest.mark.fault("D13")
@pytest.mark.parametrize("frames", [b"1A", b"2147483647"])
def test_an_impossible_number_of_frames_is_a_bad_header(write_dicom: Write, scene: np.ndarray, frames: bytes) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8)[None], 8, NumberOfFrames="1234567890")
    path.write_bytes(path.read_bytes().replace(b"1234567890", frames.ljust(10)))
    assert reason(path) == "bad_header"


def test_missing_rows_are_a_bad_header(shared_data: Path) -> None:
    assert reason(shared_data / "dicom/odd/dwv-test_no-number-rows.dcm") == "bad_header"


@pytest.mark.fault("D13")
def test_rows_and_columns_beyond_the_limit_are_refused_before_decoding(
    write_dicom: Write, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, syntax=RLELossless)
    header = pydicom.dcmread(path)
    header.Rows = header.Columns = 65535
    header.save_as(path)
    monkeypatch.setattr(decoders, "decode", lambda *_: pytest.fail("it was decoded"))
    assert reason(path) == "too_many_pixels"
    small = dicom.build(dicom.Config(limits=Limits(max_pixels=24 * 40 - 1)))
    assert reason(write_dicom(np.rint(scene * 255).astype(np.uint8), 8), reader=small) == "too_many_pixels"


@pytest.mark.fault("D13")
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
    monkeypatch.setattr(decoders, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ReadError, match="bad_header: the compressed frame has 60000 x 60000 pixels, not 512 x 512"):
        READER.read(tmp_path / "bomb")


@pytest.mark.fault("D1")
@pytest.mark.parametrize("name", ["JPLL", "JLSL", "J2KR", "RLE"])
def test_half_a_compressed_file_is_truncated_pixels(shared_data: Path, tmp_path: Path, name: str) -> None:
    whole = (shared_data / f"dicom/wg04/CT1_{name}").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    assert reason(tmp_path / "half") == "truncated_pixels"


@pytest.mark.fault("D4")
def test_a_damaged_stream_is_undecodable(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "dicom/wg04/CT1_JPLL").read_bytes()
    (tmp_path / "damaged").write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    assert reason(tmp_path / "damaged") == "undecodable"


def test_an_image_whose_pixels_are_missing_altogether_is_truncated_pixels(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00")])
    assert reason(path) == "truncated_pixels"


@pytest.mark.fault("D4")
def test_a_frame_that_crashes_its_decoder_costs_that_frame_only(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of GDCM, which ends its process on some damaged frames: a decoder that does so with every frame but the first."""
    (tmp_path / "aborting.py").write_text(
        "import os\n"
        "from medssl.data.decode import RecordReader\n"
        "from medssl.data.dicom import decoders\n"
        "def reader(*arguments):\n"
        "    decode = decoders.decode\n"
        "    decoders.decode = lambda *given: os.abort() if given[-1] else decode(*given)\n"
        "    return RecordReader(*arguments)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    frames = [Record("wg04/CT1_JPLL", "dicom"), Record("odd/jpeg_baseline_8bit.dcm", "dicom", 95)] * 3
    end_workers()
    results = list(run_in_workers(importlib.import_module("aborting").reader, (shared_data / "dicom", Data()), frames, Limits(), 1))
    end_workers()
    assert [result.reason if isinstance(result, ReadError) else "read" for result in results] == ["read", "crashed"] * 3
    assert not isinstance(results[4], ReadError)
    np.testing.assert_array_equal(results[4].pixels, READER.read(shared_data / "dicom/wg04/CT1_UNC").pixels)


def test_gdcm_is_not_used_where_another_decoder_is_installed(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.gdcm._decode_frame", lambda *_: pytest.fail("GDCM was used"))
    for name in ("CT1_J2KR", "CT1_JLSL", "CT1_RLE"):
        assert READER.read(shared_data / "dicom/wg04" / name).bits == 16
    assert READER.read(shared_data / "dicom/odd/jpeg_baseline_8bit.dcm", 95).bits == 8


@pytest.mark.fault("D3")
def test_twelve_bit_jpeg_names_the_package_that_decodes_it(shared_data: Path) -> None:
    with pytest.raises(ReadError, match=r"missing_decoder: JPEG Extended .*1\.2\.840\.10008\.1\.2\.4\.51.* pip install pylibjpeg-libjpeg"):
        READER.read(shared_data / "dicom/wg04/MR1_JPLY")


@pytest.mark.fault("D3")
@pytest.mark.parametrize(("name", "package"), [("CT1_JLSL", "pyjpegls"), ("CT1_JPLL", "python-gdcm"), ("CT1_J2KR", "pylibjpeg-openjpeg")])
def test_a_decoder_that_is_not_installed_is_named(shared_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(ReadError, match=f"missing_decoder: .* pip install {package}$"):
        READER.read(shared_data / "dicom/wg04" / name)


def test_a_transfer_syntax_that_nothing_decodes_is_undecodable_and_not_repeated(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, syntax=RLELossless)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.19710523.1234567"))
    with pytest.raises(ReadError, match=r"^undecodable: pydicom knows no decoder for an unknown transfer syntax$"):
        READER.read(path)


@pytest.mark.fault("D20")
def test_a_deflated_bomb_is_refused(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, syntax=DeflatedExplicitVRLittleEndian)
    assert reason(bombed(path, preamble=True), reader=SMALL) == "deflated_too_big"


@pytest.mark.fault("D20")
def test_a_deflated_bomb_without_a_preamble_is_refused_too(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, syntax=DeflatedExplicitVRLittleEndian)
    assert reason(bombed(path, preamble=False), reader=SMALL) == "deflated_too_big"


@pytest.mark.fault("D21")
def test_six_hundred_nested_sequences_cost_that_file_at_most(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8)
    whole = path.read_bytes()
    nest = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(whole[: whole.index(b"\x10\x00\x10\x00PN")] + nest * 600)
    assert reason(path) in ("not_dicom", "truncated_pixels", "no_pixels")


@pytest.mark.fault("D22")
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


def test_a_jpeg_2000_box_of_no_length_is_refused_instead_of_looked_at_for_ever(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8)
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = JPEG2000Lossless
    header.PixelData = encapsulate([b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(4) + b"ftyp" + bytes(100)])
    header.save_as(path)
    assert reason(path) == "undecodable"
