"""The images of a store as an array whose rows are compared with their hashes when a process first reads them.

To read a whole store for its hashes takes minutes, and a look at some rows misses what happened to the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from medssl.data.image_hash import pixel_hash
from medssl.errors import UserError


class CheckedImages(np.memmap):
    """Read-only uint8 or uint16 [N, C, H, W]. Rows are taken by a number, numbers, a slice or a mask; UserError where their pixels are not
    those that were prepared. A pickled copy opens the file again."""

    _hashes: np.ndarray | None = None
    _bits: np.ndarray
    _seen: np.ndarray

    @classmethod
    def open(cls, file: Path, hashes: np.ndarray, bits: np.ndarray) -> CheckedImages:
        """The images of a file. `hashes`: their pixel hashes, [N], text; `bits`: of the source's images, [N]."""
        images = np.load(file, mmap_mode="r", allow_pickle=False).view(cls)
        images._hashes, images._bits, images._seen = hashes, bits, np.zeros(len(hashes), bool)
        return images

    def __getitem__(self, index: Any) -> Any:
        plain = self.view(np.ndarray)
        if self._hashes is not None:  # parts of the array have none
            for row in self._first_read(index[0] if isinstance(index, tuple) else index):
                if pixel_hash(plain[row], self._bits[row]) != self._hashes[row]:
                    folder = Path(str(self.filename)).parent
                    fault = f"the pixels of row {row} are not those that were prepared"
                    raise UserError(f"{folder} is damaged: {fault}. Delete that folder and prepare the data again.")
                self._seen[row] = True
        return plain[index]

    def check(self, row: int) -> None:
        """Reads a row. Raises UserError as reading does."""
        self[row]

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._hashes is None:
            return super().__reduce__()  # pyright: ignore[reportReturnType] - numpy states object's
        return CheckedImages.open, (Path(str(self.filename)), self._hashes, self._bits)

    def _first_read(self, index: Any) -> Iterable[int]:
        """The rows that `index` names and that this process has not read yet."""
        if isinstance(index, slice):
            rows = np.arange(*index.indices(len(self)))
        elif index is None or index is Ellipsis:
            rows = np.arange(len(self))
        else:
            rows = np.atleast_1d(np.asarray(index))
            rows = np.flatnonzero(rows.reshape(len(rows), -1).any(axis=1)) if rows.dtype == bool else rows.ravel()
        return (rows[~self._seen[rows]] % len(self)).tolist()
