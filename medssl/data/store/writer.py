"""Writing the files of a store, which only their owner can read. Images are written one by one: only at the end the number of usable images
is known, and whether all have 8 bits."""

import csv
import io
import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from medssl.errors import UserError
from medssl.files import removed_on_error

WIDEN = 257  # 255 * 257 = 65535: the factor for 8-bit images in a store of 16 bits
_BLOCK = 2**24
_SMALLER = "prepare smaller images (--set data.size=...)"
_FORMULA = re.compile(r"[=+@\t\r]|-(?!\d+(\.\d+)?\Z)")


def create_private(path: Path) -> BinaryIO:
    """A new file that only its owner can read (mode 0600), open for writing and reading."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """The rows as CSV. Cells that a spreadsheet would run as a formula begin with an apostrophe; numbers below zero do not."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([f"'{cell}" if _FORMULA.match(cell) else cell for cell in row] for row in rows)
    return text.getvalue()


def write_private(path: Path, text: str) -> None:
    """Writes a new file that only its owner can read (mode 0600), and waits until it is on the disk. An error leaves no file."""
    file = create_private(path)  # a file that exists is an error, and stays
    with removed_on_error(path), file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())


def check_space(folder: Path, needed_bytes: int, in_full: bool = False) -> None:
    """Raises UserError where the disk of `folder` has less free space than that. `in_full`: for volumes that keep their shapes."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        images, smaller = ("volumes", "take larger voxels (--set data.spacing_mm=...)") if in_full else ("images", _SMALLER)
        raise UserError(
            f"The prepared {images} need {needed_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free below {folder}. "
            f"Make space, name another disk with MEDSSL_CACHE, or {smaller}."
        )


class ImageWriter:
    """Writes an .npy file [N, C, H, W] image by image. The type is uint8 until the first image of 16 bits is added; all images are then
    rewritten as uint16. `shape`: [C, H, W], or [C, D, H, W] of volumes. Where images differ in their shapes it is empty, and the file
    is one row of pixels.

    Raises UserError where the disk has too little space for all `expected` images, or pixels of a row.
    """

    def __init__(self, path: Path, expected: int, shape: tuple[int, ...]) -> None:
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
        self._rows += image.size // math.prod(self._shape)

    def finish(self) -> None:
        """Writes the final number of images into the header, and waits until the file is on the disk."""
        self._file.seek(0)
        self._write_header(self._rows)  # has the old header's length: NumPy leaves space for other numbers of rows
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Closes the file without completing it."""
        self._file.close()

    def _open(self, dtype: np.dtype) -> None:
        check_space(self._path.parent, self._expected * math.prod(self._shape) * dtype.itemsize, in_full=not self._shape)
        self.dtype = dtype
        self._file = create_private(self._path)
        self._write_header(self._expected)

    def _write_header(self, rows: int) -> None:
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (rows, *self._shape)}
        npy.write_array_header_1_0(self._file, header)

    def _widen(self) -> None:
        """Replaces the uint8 file by a uint16 file with the same images."""
        narrow = self._file
        self._path.unlink()  # the open file stays readable until it is closed
        length = math.prod(self._shape)
        narrow.seek(-self._rows * length, 2)
        self._open(np.dtype(np.uint16))
        while block := narrow.read(_BLOCK):
            self._file.write((np.frombuffer(block, np.uint8).astype(np.uint16) * WIDEN).tobytes())
        narrow.close()
