"""Which files decide the hash of a record."""

import errno
import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medssl.config import Data
from medssl.data.formats import raise_if_of_the_machine
from medssl.data.store.fingerprint import SourceHash
from medssl.errors import ReadError
from medssl.types import Record, Source


def pair(folder: Path, compressed: bool) -> tuple[Path, Path]:
    """A NIfTI volume in two files, the header and the voxels."""
    header, image = folder / "scan.hdr", folder / "scan.img"
    nibabel.save(nibabel.Nifti1Pair(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)), header)
    if compressed:
        packed = folder / "scan.img.gz"
        packed.write_bytes(gzip.compress(image.read_bytes()))
        image.unlink()
        image = packed
    return header, image


@pytest.mark.parametrize("compressed", [False, True])
def test_new_voxels_beside_an_old_header_change_the_hash_whatever_their_size_and_time(tmp_path: Path, compressed: bool) -> None:
    header, image = pair(tmp_path, compressed)
    record = Record(header.name, "nifti", 2)
    hashes = []
    for number in (50, 40, 60):  # restored from a backup, too, with a time before that of the header
        os.utime(header, ns=(55, 55))
        os.utime(image, ns=(number, number))
        hashes.append(SourceHash(Source("nifti", tmp_path, (record,)), Data()).of(record))
    assert len(set(hashes)) == 3


def test_a_file_beside_a_volume_in_one_file_does_not_count(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "scan.nii")
    record = Record("scan.nii", "nifti")
    source = Source("nifti", tmp_path, (record,))
    before = SourceHash(source, Data()).of(record)
    (tmp_path / "scan.img").write_bytes(b"another")
    assert SourceHash(source, Data()).of(record) == before


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "too_much_memory"),
        (OSError(errno.EIO, "Input/output error"), "unreadable"),
        (PermissionError(errno.EACCES, "Permission denied"), "unreadable"),
    ],
)
def test_errors_of_the_machine_are_not_told_as_damage_of_the_file(error: Exception, reason: str) -> None:
    with pytest.raises(ReadError) as told:
        raise_if_of_the_machine(error)
    assert told.value.reason == reason


@pytest.mark.parametrize("error", [OSError("image file is truncated"), OSError(errno.EINVAL, "Invalid argument"), ValueError("bad")])
def test_errors_of_decoders_and_wrong_positions_are_damage(error: Exception) -> None:
    raise_if_of_the_machine(error)
