"""Writing a store's files, for their owner only. Images are written one by one: how many are usable, and whether all have 8 bits, is known
only at the end."""

import csv
import io
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from medssl.errors import UserError

WIDEN = 257  # 255 * 257 = 65535: an 8-bit image keeps its values when others of the store have 16


def create_private(path: Path) -> BinaryIO:
    """A new file that only its owner can read (0600), open for writing and reading."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV in which no cell is a formula for a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in row] for row in rows)
    return text.getvalue()


def write_private(path: Path, text: str) -> None:
    """Writes a file (0600) through to the disk."""
    with create_private(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())


class ImageWriter:
    """An .npy file [N, C, H, W] that grows. It is uint8 until the first image of 16 bits comes; what is there is then widened.

    Raises UserError where the disk has too little space for all `expected` images.
    """

    def __init__(self, path: Path, expected: int, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._expected = expected
        self._shape = shape
        self._rows = 0
        self._open(np.dtype(np.uint8))

    def append(self, image: np.ndarray) -> None:
        """Adds one image, uint8 or uint16 [C, H, W]."""
        if image.dtype.itemsize > self.dtype.itemsize:
            self._widen()
        elif image.dtype.itemsize < self.dtype.itemsize:
            image = image.astype(self.dtype) * WIDEN
        self._file.write(image.tobytes())
        self._rows += 1

    def finish(self) -> None:
        """Writes the number of images that came into the header, and everything to the disk."""
        self._file.seek(0)
        self._write_header(self._rows)  # as long as before: NumPy leaves space for the first axis to grow
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Gives the file up."""
        self._file.close()

    def _open(self, dtype: np.dtype) -> None:
        needed, free = self._expected * int(np.prod(self._shape)) * dtype.itemsize, shutil.disk_usage(self._path.parent).free
        if needed > free:
            raise UserError(
                f"The prepared images need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free below {self._path.parent.parent}. "
                "Make space, name another disk with MEDSSL_CACHE, or prepare smaller images (--set data.size=...)."
            )
        self.dtype = dtype
        self._file = create_private(self._path)
        self._write_header(self._expected)

    def _write_header(self, rows: int) -> None:
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (rows, *self._shape)}
        npy.write_array_header_1_0(self._file, header)

    def _widen(self) -> None:
        narrow = self._file
        self._path.unlink()  # the open file stays readable until it is closed
        length = int(np.prod(self._shape))
        narrow.seek(-self._rows * length, 2)
        self._open(np.dtype(np.uint16))
        for _ in range(self._rows):
            self._file.write((np.frombuffer(narrow.read(length), np.uint8).astype(np.uint16) * WIDEN).tobytes())
        narrow.close()
