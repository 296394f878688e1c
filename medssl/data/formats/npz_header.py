"""The headers of the arrays in an .npz file: shapes and types, compared with the sizes in the zip directory before an array is read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from medssl.errors import UserError

_MAX_LENGTH = 5_000_000  # of an axis; TissueMNIST, the largest set, has 165,466 images in one array


class Header(NamedTuple):
    """The shape and the type of one array by its header."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Arrays:
    """The arrays of an open .npz file. Every error is a UserError that names the file, the key, what was expected and what was found. Other
    names inside the archive may be private and are not repeated."""

    def __init__(self, file: Path, archive: zipfile.ZipFile) -> None:
        self.file = file
        self._archive = archive
        self.keys = [name.removesuffix(".npy") for name in archive.namelist()]

    def header(self, key: str) -> Header:
        """The shape and type of an array. Raises UserError where an axis is empty or longer than any set of images, and
        where they need another number of bytes than the zip directory states."""
        with self._open(key) as stream:
            header = self._parse(key, stream)
            claimed, found = prod(header.shape) * header.dtype.itemsize, self._size(key) - stream.tell()
        if header.shape and not 1 <= min(header.shape) <= max(header.shape) <= _MAX_LENGTH:
            raise UserError(f"{self.file}, {key}: an array of shape {header.shape}, expected axes of 1 to {_MAX_LENGTH}.")
        if claimed != found:
            raise UserError(f"{self.file}, {key}: its header says {claimed} bytes, the file holds {found}. It is damaged; fetch it again.")
        return header

    def read(self, key: str, max_bytes: int) -> np.ndarray:
        """The whole array. Raises UserError where it is larger than `max_bytes`."""
        if self._size(key) > max_bytes:
            raise UserError(f"{self.file}, {key}: too big (too_big): {self._size(key)} bytes, expected at most {max_bytes}.")
        with self._open(key) as stream:
            return npy.read_array(stream, allow_pickle=False)

    def _size(self, key: str) -> int:
        return self._archive.getinfo(f"{key}.npy").file_size

    def _open(self, key: str) -> IO[bytes]:
        if key not in self.keys:
            raise UserError(f"{self.file} has no array {key!r}, which the MedMNIST form needs; it has {len(self.keys)} others.")
        return self._archive.open(f"{key}.npy")

    def _parse(self, key: str, stream: IO[bytes]) -> Header:
        version = npy.read_magic(stream)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
        if dtype.hasobject:
            raise UserError(f"{self.file}, {key}: expected numbers, found pickled objects (pickled_npz), which medssl never loads.")
        return Header(shape, dtype)


@contextmanager
def open_arrays(file: Path) -> Iterator[Arrays]:
    """The arrays of `file`, for a `with` block. Raises UserError for a damaged file, also where the damage shows inside the block."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield Arrays(file, archive)
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError, MemoryError) as error:
        raise UserError(f"{file} is not a complete .npz file ({type(error).__name__}). It may be cut short; fetch it again.") from None
