"""Small files that claim to be huge cost themselves only when a folder is listed, and one bad file is one fault."""

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from medssl.config import Data, Limits
from medssl.data.sources import dicom, medmnist, nifti, parquet_images
from medssl.data.store import make_plan
from medssl.data.store.skipped import Skipped, check_faults
from medssl.errors import UserError
from medssl.types import Record, Source


@pytest.mark.fault("S22")
def test_a_small_volume_that_claims_19_million_slices_costs_itself(tmp_path: Path) -> None:
    header = nibabel.Nifti2Header()
    header.set_data_shape((1, 1, 19_000_000))
    header.set_data_dtype(np.uint8)
    header["vox_offset"] = 544
    with gzip.open(tmp_path / "bomb.nii.gz", "wb") as file:
        file.write(header.binaryblock + bytes(4) + bytes(19_000_000))
    assert (tmp_path / "bomb.nii.gz").stat().st_size < 25_000
    good = nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 99, (8, 8, 3), np.int16), np.eye(4))  # pyright: ignore
    good.to_filename(tmp_path / "good.nii.gz")
    tracemalloc.start()
    source = nifti.build(nifti.Config(), str(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.locator for record in source.records] == ["good.nii.gz"] * 3
    assert [(file, reason) for file, reason, _ in source.skipped] == [("bomb.nii.gz", "too_many_frames")]
    assert peak < 2**26


@pytest.mark.fault("S22")
def test_a_dicom_file_that_holds_four_million_frames_of_a_pixel_costs_itself(tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    pixel = np.full((1, 1), 7, np.uint8)
    good = write_dicom(np.arange(64, dtype=np.uint8).reshape(8, 8), 8, "good.dcm")
    bomb = write_dicom(pixel, 8, "bomb.dcm", NumberOfFrames=4_000_000, PixelData=bytes(4_000_000))
    assert bomb.stat().st_size > 4_000_000
    source = dicom.build(dicom.Config(), str(tmp_path))
    assert [record.locator for record in source.records] == [good.name]
    assert [(file, reason) for file, reason, _ in source.skipped] == [("bomb.dcm", "too_many_frames")]


@pytest.mark.fault("S22")
@pytest.mark.parametrize("stored_once", [True, False])
def test_a_parquet_file_whose_texts_unpack_to_more_than_the_memory_is_refused(tmp_path: Path, stored_once: bool) -> None:
    """Once by pages that inflate, and once by a text that is stored once and repeated, of which the file's header says nothing."""
    file, text = tmp_path / "a.parquet", "x" * 2_000_000
    table = pa.table({"image": [b"1"] * 50, "note": [text if stored_once else text + str(n) for n in range(50)]})
    parquet.write_table(table, file, compression="zstd", use_dictionary=stored_once)
    assert file.stat().st_size < 5_000_000
    with pytest.raises(UserError, match="too_big"):
        parquet_images.build(parquet_images.Config(limits=Limits(memory_bytes=50_000_000)), str(file))


@pytest.mark.fault("S22")
@pytest.mark.parametrize("shape", [(10**12, 0, 28), (0, 28, 28), (2**40, 1, 1)])
def test_an_npz_array_with_an_empty_or_endless_axis_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    with pytest.raises(UserError, match="train_images: an array of shape"):
        medmnist.build(medmnist.Config(), str(tmp_path / "a.npz"))


def plan_of(tmp_path: Path, frames: dict[str, int]):
    records = tuple(Record(name, "dicom", at) for name, number in frames.items() for at in range(number))
    return make_plan(Source("dicom", tmp_path, records), Data(path=str(tmp_path)), tmp_path / "cache", None)


def faulty(name: str, number: int) -> list[Skipped]:
    return [Skipped(f"{name}{at}", name, "truncated_pixels", "", True) for at in range(number)]


@pytest.mark.fault("S22")
def test_a_file_that_claims_many_frames_is_one_fault_and_many_bad_files_are_many(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.dcm").write_bytes(b"x")
    (tmp_path / "bomb.dcm").write_bytes(b"x")
    single = {f"{number}.dcm": 1 for number in range(200)}
    check_faults(plan_of(tmp_path, {**single, "bomb.dcm": 5000}), 200, faulty("bomb.dcm", 5000))
    volumes = {f"{number}.dcm": 30 for number in range(10)}
    with pytest.raises(UserError, match=r"30 of 300 images are faulty"):
        check_faults(plan_of(tmp_path, volumes), 270, faulty("3.dcm", 30))
    with pytest.raises(UserError, match=r"5 of 200 images are faulty"):
        check_faults(plan_of(tmp_path, single), 195, [each for n in range(5) for each in faulty(f"{n}.dcm", 1)])
