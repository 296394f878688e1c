import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medssl.config import Limits
from medssl.data.readers import npz
from medssl.errors import ReadError


def reader(**limits: int) -> npz.Reader:
    return npz.build(npz.Config(limits=Limits(**limits)))


def reason(path: Path, index: int = 0, **limits: int) -> str:
    with pytest.raises(ReadError) as caught:
        reader(**limits).read(path, index)
    assert caught.value.detail
    return caught.value.reason


@pytest.fixture
def images() -> np.ndarray:
    """uint8 [5, 6, 4, 3]"""
    return np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), np.uint8)


def archive(folder: Path, **members: np.ndarray) -> str:
    np.savez_compressed(folder / "a.npz", allow_pickle=False, **members)
    return str(folder / "a.npz")


def test_rows_of_the_official_file_are_the_images_of_its_array(shared_data: Path) -> None:
    file = shared_data / "medmnist/pneumoniamnist.npz"
    expected = np.load(file)["test_images"]
    read = reader()
    for index in (0, 300, 623):
        decoded = read.read(Path(f"{file}#test_images"), index)
        np.testing.assert_array_equal(np.rint(decoded.pixels[0] * 255), expected[index])
        assert (decoded.pixels.shape, decoded.pixels.dtype, decoded.bits) == ((1, 28, 28), np.float32, 8)


def test_colour_comes_channels_first_and_sixteen_bits_are_kept(tmp_path: Path, images: np.ndarray) -> None:
    file = archive(tmp_path, colour=images, deep=images[..., 0].astype(np.uint16) * 257, one=images[..., :1])
    np.testing.assert_allclose(reader().read(Path(file + "#colour"), 2).pixels, np.moveaxis(images[2], -1, 0) / 255, atol=1e-6)
    assert reader().read(Path(file + "#deep"), 2).bits == 16
    for key in ("deep", "one"):
        np.testing.assert_allclose(reader().read(Path(f"{file}#{key}"), 2).pixels, images[2, ..., 0][None] / 255, atol=1e-6)


def test_rows_are_the_same_in_any_order_and_across_arrays(tmp_path: Path, images: np.ndarray) -> None:
    file, read = archive(tmp_path, train=images, test=images[::-1]), reader()
    for key, index in (("train", 4), ("train", 0), ("test", 4), ("train", 3), ("train", 3), ("test", 1)):
        expected = images[index if key == "train" else 4 - index]
        np.testing.assert_allclose(read.read(Path(f"{file}#{key}"), index).pixels, np.moveaxis(expected, -1, 0) / 255, atol=1e-6)


@pytest.mark.fault("Z2")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_stays_flat_and_each_row_is_unpacked_once(
    tmp_path: Path, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MB in the archive, of which a few rows and zipfile's own piece of 16 MB at most are in memory."""
    save(tmp_path / "a.npz", x=np.tile(np.random.default_rng(0).integers(0, 256, (1, 256, 256), np.uint8), (1000, 1, 1)))
    bytes_read, original = [], zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: bytes_read.append(n) or original(self, n))
    read = reader()
    tracemalloc.start()
    for index in range(1000):
        read.read(Path(f"{tmp_path / 'a.npz'}#x"), index)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32e6
    assert sum(bytes_read) < 1.1 * 1000 * 256 * 256


def test_slices_of_volumes_count_on_from_row_to_row(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 4), np.uint8)
    volumes[1, 2] = 7
    file, read = Path(archive(tmp_path, x=volumes) + "#x"), reader()
    for row, at in ((0, 0), (2, 4), (1, 3)):
        np.testing.assert_allclose(read.read(file, row * 5 + at).pixels, volumes[row, at][None] / 255, atol=1e-6)
    assert reason(file, 1 * 5 + 2) == "empty_slice"
    assert reason(file, 15) == "no_such_row"


def test_an_array_in_fortran_order_is_refused_instead_of_read_askew(tmp_path: Path, images: np.ndarray) -> None:
    assert reason(Path(archive(tmp_path, x=np.asfortranarray(images)) + "#x")) == "bad_array"


def test_an_image_over_the_limit_is_refused(tmp_path: Path, images: np.ndarray) -> None:
    file = Path(archive(tmp_path, x=images) + "#x")
    assert reason(file, max_pixels=6 * 4 * 3 - 1) == "too_many_pixels"
    assert reader(max_pixels=6 * 4 * 3).read(file).bits == 8


@pytest.mark.fault("Z3")
def test_rows_behind_damage_are_truncated_and_those_before_it_are_not(tmp_path: Path) -> None:
    """A wrong checksum shows at the end of the array only, with its last row."""
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64), np.uint8)
    file = Path(archive(tmp_path, x=images))
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as content:
        checksum = struct.pack("<I", content.getinfo("x.npy").CRC)
    file.write_bytes(whole.replace(checksum, b"\1\2\3\4"))
    read = reader()
    assert [read.read(Path(f"{file}#x"), index).bits for index in range(4)] == [8] * 4
    for _ in range(2):
        with pytest.raises(ReadError, match="truncated"):
            read.read(Path(f"{file}#x"), 4)
    np.testing.assert_allclose(read.read(Path(f"{file}#x"), 1).pixels[0], images[1] / 255, atol=1e-6)


@pytest.mark.fault("Z3")
def test_a_missing_key_a_missing_row_and_a_missing_file_have_reasons_that_name_nobody(tmp_path: Path, images: np.ndarray) -> None:
    file = archive(tmp_path, train_images=images, DOE=images)
    with pytest.raises(ReadError, match=r"no_such_key: the archive has 2 arrays, none of that name"):
        reader().read(Path(file + "#val_images"))
    assert reason(Path(file + "#train_images"), 5) == "no_such_row"
    assert reason(tmp_path / "b.npz#train_images") == "unreadable"


@pytest.mark.fault("Z1")
def test_objects_and_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", bad=np.array([{"a": 1}], dtype=object))
    assert reason(tmp_path / "a.npz#bad") == "pickled_npz"
    (tmp_path / "b.npz").write_bytes(b"\x80\x04K\x01.")
    assert reason(tmp_path / "b.npz#bad") == "truncated"


@pytest.mark.fault("Z2")
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, images: np.ndarray) -> None:
    zeros = np.zeros((4000, 28, 28), np.uint8)
    assert reason(Path(archive(tmp_path, x=zeros) + "#x")) == "too_big"  # a ratio of about 1000
    assert reason(Path(archive(tmp_path, x=images) + "#x"), max_array_bytes=images.nbytes) == "too_big"  # by its header alone
    assert reader(max_array_bytes=images.nbytes + 1000).read(Path(archive(tmp_path, x=images) + "#x")).bits == 8


@pytest.mark.fault("Z2")
def test_a_header_that_claims_more_than_there_is_is_refused_before_allocation(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**11, 28, 28)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", header.getvalue() + bytes(100))
    assert reason(tmp_path / "a.npz#x") == "bad_array"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 6)),
        np.zeros((5, 6, 4)),
        np.zeros((5, 6, 4, 2)),
        np.zeros((5, 6, 4, 4), bool),
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 0, 4), np.uint8),
        np.zeros((2, 3, 4, 5, 6), np.uint8),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    assert reason(Path(archive(tmp_path, x=array) + "#x")) == "bad_array"


@pytest.mark.fault("Z3")
def test_a_damaged_archive_is_truncated(tmp_path: Path, images: np.ndarray) -> None:
    file = Path(archive(tmp_path, x=images))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert reason(Path(f"{file}#x")) == "truncated"
    file.write_bytes(whole[:150] + bytes([whole[150] ^ 255]) + whole[151:])
    assert reason(Path(f"{file}#x")) == "truncated"


def test_archives_are_recognised_by_their_content(tmp_path: Path, images: np.ndarray) -> None:
    assert npz.recognises(Path(archive(tmp_path, x=images)).read_bytes()[:132])
    assert not npz.recognises(b"\x93NUMPY")
