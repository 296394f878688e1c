"""What an .npz file says of its arrays before any is read: shapes and types from their headers, sizes from the zip directory."""

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


class Header(NamedTuple):
    """The shape and the type of one array, as its own header states them."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Arrays:
    """The arrays of an open .npz file. Every error is a UserError that names the file as it was
    given, the key, what was expected and what was found; other names inside the archive are not told."""

    def __init__(self, file: Path, archive: zipfile.ZipFile) -> None:
        self.file = file
        self._archive = archive
        self.keys = [name.removesuffix(".npy") for name in archive.namelist()]

    def header(self, key: str) -> Header:
        """Shape and type, once they fit the bytes that the zip directory promises."""
        with self._opened(key) as stream:
            header = self._parsed(key, stream)
            claimed, found = prod(header.shape) * header.dtype.itemsize, self._size(key) - stream.tell()
        if claimed != found:
            raise UserError(f"{self.file}, {key}: its header says {claimed} bytes, the file holds {found}. It is damaged; fetch it again.")
        return header

    def read(self, key: str, most: int) -> np.ndarray:
        """The whole array, of at most `most` bytes."""
        if self._size(key) > most:
            raise UserError(f"{self.file}, {key}: too big (too_big): {self._size(key)} bytes, expected at most {most}.")
        with self._opened(key) as stream:
            return npy.read_array(stream, allow_pickle=False)

    def _size(self, key: str) -> int:
        return self._archive.getinfo(f"{key}.npy").file_size

    def _opened(self, key: str) -> IO[bytes]:
        if key not in self.keys:
            raise UserError(f"{self.file} has no array {key!r}, which the MedMNIST form needs; it has {len(self.keys)} others.")
        return self._archive.open(f"{key}.npy")

    def _parsed(self, key: str, stream: IO[bytes]) -> Header:
        version = npy.read_magic(stream)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
        if dtype.hasobject:
            raise UserError(f"{self.file}, {key}: expected numbers, found pickled objects (pickled_npz), which medssl never loads.")
        return Header(shape, dtype)


@contextmanager
def open_arrays(file: Path) -> Iterator[Arrays]:
    """The arrays of `file` within a `with` block; damage that shows while they are read becomes a UserError."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield Arrays(file, archive)
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{file} is no whole .npz file ({type(error).__name__}). It may be cut short; fetch it again.") from None
