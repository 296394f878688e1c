import gzip
import os
import random
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image, Nifti1Pair

from medssl.config import Limits
from medssl.data.readers import nifti
from medssl.errors import ReadError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VALUES = np.random.default_rng(0).integers(0, 3000, (12, 10, 8), np.int16)


def reason(path: Path, index: int = 0, **limits: int) -> str:
    with pytest.raises(ReadError) as caught:
        nifti.build(nifti.Config(limits=Limits(**limits))).read(path, index)
    assert caught.value.detail
    assert "DOE" not in str(caught.value)
    return caught.value.reason


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A whole file of 12 x 10 x 8 voxels, named after a patient."""
    image = Nifti1Image(VALUES, LPS)
    image.header["descrip"] = b"DOE^JANE"
    image.to_filename(tmp_path / "DOE.nii")
    return tmp_path / "DOE.nii"


def changed(path: Path, at: int, form: str, *values: float) -> Path:
    """The same file with these numbers written at byte `at`."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, *values)
    path.write_bytes(content)
    return path


def compressed(path: Path, content: bytes) -> Path:
    path.with_suffix(".nii.gz").write_bytes(gzip.compress(content))
    return path.with_suffix(".nii.gz")


@pytest.mark.fault("N1")
@pytest.mark.parametrize("dim", [(3, 32767, 32767, 32767), (3, 1000, 1000, 1000), (4, 12, 10, 8, 32767)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_bigger_than_its_file_is_refused_at_once(volume: Path, dim: tuple[int, ...], packed: bool) -> None:
    reason(Path("/nowhere"))
    nifti.build(nifti.Config()).read(volume)  # what is imported on first use is not counted
    changed(volume, 40, f"<{len(dim)}h", *dim)
    path = compressed(volume, volume.read_bytes()[:480]) if packed else volume
    tracemalloc.start()
    start = time.perf_counter()
    assert reason(path) == "header_bigger_than_file"
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (seconds < 0.1, peak < 50e6) == (True, True)


@pytest.mark.fault("N1")
def test_a_compressed_file_that_could_hold_what_it_claims_but_does_not_is_refused(volume: Path) -> None:
    assert reason(compressed(volume, changed(volume, 40, "<4h", 3, 12, 10, 9).read_bytes()), 8) == "header_bigger_than_file"


@pytest.mark.fault("N1")
def test_what_would_unpack_to_more_than_the_limit_is_refused(volume: Path) -> None:
    whole = volume.read_bytes()
    assert reason(compressed(volume, whole + bytes(5000)), max_array_bytes=4000) == "too_big"  # the stream, though not the volume
    assert reason(compressed(volume, whole), max_array_bytes=1000) == "too_big"
    assert reason(volume, memory_bytes=3 * VALUES.nbytes - 1) == "too_big"
    assert reason(volume, max_pixels=119) == "too_many_pixels"
    assert nifti.build(nifti.Config(limits=Limits(max_pixels=120, memory_bytes=3 * VALUES.nbytes))).read(volume).bits == 16


@pytest.mark.fault("N2")
@pytest.mark.parametrize(
    "dim",
    [(3, -12, 10, 8), (3, -12, -10, 8), (3, 0, 10, 8), (0, 12, 10, 8), (1, 960, 1, 1), (-3, 12, 10, 8), (9, 12, 10, 8), (4, 12, 10, 8, 0)],
)
def test_sizes_that_are_no_sizes_are_a_bad_header(volume: Path, dim: tuple[int, ...]) -> None:
    assert reason(changed(volume, 40, f"<{len(dim)}h", *dim)) == "bad_header"


@pytest.mark.fault("N2")
def test_seven_huge_axes_are_refused(volume: Path) -> None:
    assert reason(changed(volume, 40, "<8h", 7, *[32767] * 7)) == "header_bigger_than_file"


@pytest.mark.fault("N2")
@pytest.mark.parametrize(("code", "expected"), [(0, "bad_header"), (1, "bad_header"), (9999, "bad_header"), (32, "not_an_image")])
def test_unknown_types_are_a_bad_header_and_complex_numbers_no_image(volume: Path, code: int, expected: str) -> None:
    assert reason(changed(volume, 70, "<h", code)) == expected


@pytest.mark.fault("N2")
@pytest.mark.parametrize("offset", [np.nan, np.inf, -500.0, 1e30])
def test_voxels_at_no_place_are_a_bad_header(volume: Path, offset: float) -> None:
    assert reason(changed(volume, 108, "<f", offset)) == "bad_header"


@pytest.mark.fault("N3")
@pytest.mark.parametrize("keep", ["half", "no trailer", "half a trailer"])
def test_a_compressed_file_cut_short_is_truncated(volume: Path, keep: str) -> None:
    path = compressed(volume, volume.read_bytes())
    whole = path.read_bytes()
    path.write_bytes(whole[: {"half": len(whole) // 2, "no trailer": -8, "half a trailer": -4}[keep]])
    assert reason(path) == "truncated"


@pytest.mark.fault("N4")
def test_a_flipped_bit_in_compressed_voxels_is_found_wherever_it_is(volume: Path) -> None:
    path = compressed(volume, volume.read_bytes())
    whole = path.read_bytes()
    for at in [-8, -4, *random.Random(0).sample(range(100, len(whole) - 8), 30)]:  # noqa: S311 - the same damage every time
        damaged = bytearray(whole)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        assert reason(path) in ("crc", "truncated")
    path.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    assert reason(path) == "crc"


@pytest.mark.fault("N4")
def test_a_file_that_failed_is_not_unpacked_again_for_its_other_slices(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compressed(volume, volume.read_bytes())
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    checked, original = [], nifti.nifti_header.check_gzip
    monkeypatch.setattr(nifti.nifti_header, "check_gzip", lambda *given: checked.append(1) or original(*given))
    read = nifti.build(nifti.Config())
    for index in range(8):
        with pytest.raises(ReadError, match="crc"):
            read.read(path, index)
    assert checked == [1]


def test_a_header_without_its_voxels_is_missing_img_and_with_half_of_them_too_big(tmp_path: Path) -> None:
    Nifti1Pair(VALUES, LPS).to_filename(tmp_path / "DOE.hdr")
    image = tmp_path / "DOE.img"
    image.write_bytes(image.read_bytes()[:1000])
    assert reason(tmp_path / "DOE.hdr") == "header_bigger_than_file"
    image.unlink()
    assert reason(tmp_path / "DOE.hdr") == "missing_img"


def test_other_files_are_not_nifti(tmp_path: Path, volume: Path) -> None:
    for content in (b"text", b"\x5c\x01\0\0" + bytes(400), b"\x1f\x8b" + bytes(40), gzip.compress(b"text")):  # Analyze 7.5 among them
        (tmp_path / "DOE").write_bytes(content)
        assert reason(tmp_path / "DOE") == "not_nifti"
        assert not nifti.recognises(content)
    (tmp_path / "DOE").write_bytes(b"")
    assert reason(tmp_path / "DOE") == "empty"
    os.mkfifo(tmp_path / "DOE.fifo")
    assert reason(tmp_path / "DOE.fifo") == "not_a_file"
    assert reason(tmp_path / "DOE" / "gone.nii") == "unreadable"
    for index in (-1, 8):
        assert reason(volume, index) == "no_such_slice"


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file_is_read_or_refused_with_a_reason_and_nothing_is_printed(
    volume: Path, packed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = volume.read_bytes()
    for seed in range(150):
        dice, data = random.Random(seed), bytearray(whole)  # noqa: S311 - the same damage every time
        for _ in range(dice.choice((1, 3, 10))):
            data[dice.randrange(348)] = dice.randrange(256)
        volume.write_bytes(data)
        try:
            decoded = nifti.build(nifti.Config()).read(compressed(volume, bytes(data)) if packed else volume, 1)
        except ReadError as error:
            assert error.detail
            assert "DOE" not in str(error)
        else:
            assert decoded.pixels.dtype == np.float32
            assert 0 <= decoded.pixels.min() <= decoded.pixels.max() <= 1
    assert capfd.readouterr() == ("", "")
