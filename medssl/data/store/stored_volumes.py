"""Volumes of different shapes in one file, of which only parts are read (data.volumes=patches).

The file is one flat .npy array, volume by volume, each [C, D, H, W]. A part is read through a memory map of its volume that is closed
again at once. So the memory of a process stays the same, however much of the file a training has seen.

A training step reads one box of each volume, from which the two views are made. Networks that describe a volume see its windows: patches
that lie in a regular grid, each half over the next one, as in `monai.inferers.sliding_window_inference`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from medssl.data.image_hash import pixel_hash
from medssl.errors import UserError

_BOX = 1.2  # the edge of a box as a multiple of a patch's: views of 0.3 to 1 of the box (0.67 to 1 of its edges) have the scale 0.8 to 1.2
_BOX_KEY = 2**32  # no key of the loader's order or of a view has it in this place
_DRAWS, _EMPTY = 4, 0.02  # places of a box that are drawn until it shows something: a standard deviation of that share of the range
Edges = tuple[int, int, int]


@dataclass(frozen=True)
class StoredVolumes:
    """`volumes[row]` is a volume [C, D, H, W] as a read-only memory map.

    `file`: the flat array. `shapes`: of the volumes, without channels. `patch`: the edges of what a network sees. `offset`: of the first
    volume, in bytes. `hashes` and `bits`: as the store's table has them.
    """

    file: Path
    shapes: Int[np.ndarray, "n 3"]
    channels: int
    patch: Edges
    dtype: np.dtype
    offset: int
    hashes: Shaped[np.ndarray, " n"]
    bits: Int[np.ndarray, " n"]

    ndim = 5

    @classmethod
    def open(
        cls,
        file: Path,
        shapes: Int[np.ndarray, "n 3"],
        channels: int,
        patch: Edges,
        hashes: Shaped[np.ndarray, " n"],
        bits: Int[np.ndarray, " n"],
    ) -> StoredVolumes:
        """The volumes of a file. Raises ValueError where it does not have their size; OSError where it cannot be read."""
        flat = np.load(file, mmap_mode="r", allow_pickle=False)
        found = cls(file, shapes, channels, patch, flat.dtype, int(flat.offset), hashes, bits)
        if flat.shape != (found.size,):
            raise ValueError(f"{file.name} has another size than its volumes")
        return found

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all volumes as a network sees them, in patches: [N, C, d, h, w]."""
        return (len(self), self.channels, *self.patch)

    @property
    def size(self) -> int:
        """The voxels of all volumes and channels."""
        return int(self._starts[-1])

    @property
    def largest_bytes(self) -> int:
        """Of the largest volume."""
        return int(np.diff(self._starts).max()) * self.dtype.itemsize

    @cached_property
    def windows(self) -> Windows:
        """The windows of all volumes, volume by volume."""
        return Windows(self)

    @cached_property
    def _starts(self) -> Int[np.ndarray, " n+1"]:
        """Where each volume begins in the file, in voxels; and the end."""
        return np.concatenate([[0], np.cumsum(self.channels * self.shapes.astype(np.int64).prod(axis=1))])

    def __getitem__(self, row: Any) -> Shaped[np.ndarray, "c d h w"]:
        """The volume of a row, which is an integer."""
        return self._map(row)[1]

    def _map(self, row: int) -> tuple[mmap.mmap, Shaped[np.ndarray, "c d h w"]]:
        """A new map of the file that ends with the volume, and the volume in it. The map is closed once nobody has the volume any more."""
        first, end = (self.offset + int(at) * self.dtype.itemsize for at in self._starts[row : row + 2])
        skipped = first % mmap.ALLOCATIONGRANULARITY
        with self.file.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), end - first + skipped, access=mmap.ACCESS_READ, offset=first - skipped)
        return mapped, np.ndarray((self.channels, *self.shapes[row].tolist()), self.dtype, mapped, skipped)

    def check(self, row: int) -> None:
        """Reads the whole volume. Raises UserError where its voxels are not those that were prepared."""
        if pixel_hash(self[row], int(self.bits[row])) != self.hashes[row]:
            fault = f"the voxels of row {row} are not those that were prepared"
            raise UserError(f"{self.file.parent} is damaged: {fault}. Delete that folder and prepare the data again.")

    @property
    def box(self) -> Edges:
        """The edges of the box from which both views of a step are made: a little longer than a patch's."""
        deep, tall, wide = (math.ceil(_BOX * edge) for edge in self.patch)
        return deep, tall, wide

    @property
    def box_bytes(self) -> int:
        """Of one box in memory."""
        return self.channels * math.prod(self.box) * self.dtype.itemsize

    def draw(self, rows: Int[np.ndarray, " b"], seed: int, step: int) -> Shaped[np.ndarray, "b c d h w"]:
        """A box of each volume. Its place is a function of (seed, step, row), all places are equally likely. A box that is nearly uniform,
        as one of air, is drawn again, up to three times. Around a volume that is smaller than the box are zeros."""
        return np.stack([self._draw(int(row), seed, step) for row in rows])

    def _draw(self, row: int, seed: int, step: int) -> Shaped[np.ndarray, "c d h w"]:
        random = np.random.default_rng(np.random.SeedSequence((seed, step, row, _BOX_KEY)))
        room, box = self.shapes[row] - self.box, np.empty(0, self.dtype)
        for _ in range(_DRAWS):
            place = random.integers(np.maximum(room, 0) + 1)
            box = self.part(row, np.where(room < 0, -(-room // 2), place), self.box)
            if box[:, ::3, ::3, ::3].std() >= _EMPTY * np.iinfo(self.dtype).max:
                break
        return box

    def part(self, row: int, start: Int[np.ndarray, " 3"], edges: Edges) -> Shaped[np.ndarray, "c d h w"]:
        """The part of a volume that begins at the voxel `start`, with zeros where it reaches beyond the volume."""
        mapped, volume = self._map(row)
        part = np.zeros((self.channels, *edges), self.dtype)
        low, high = np.maximum(start, 0), np.minimum(start + edges, volume.shape[1:])
        _read_ahead(mapped, volume, low, high)
        inside = volume[:, *(slice(*ends) for ends in zip(low, high, strict=True))]
        part[:, *(slice(*ends) for ends in zip(low - start, high - start, strict=True))] = inside
        return part


def _read_ahead(mapped: mmap.mmap, volume: Shaped[np.ndarray, "c d h w"], low: Int[np.ndarray, " 3"], high: Int[np.ndarray, " 3"]) -> None:
    """Tells the system that a box is read: of each slice the rows from the first voxel to the last one. Else it would read 128 kB around
    each row, which is thirty times too much where a row has 4 kB."""
    if not hasattr(mapped, "madvise"):
        return
    mapped.madvise(mmap.MADV_RANDOM)
    corners = np.array([low[1:], high[1:] - 1])
    first, last = corners @ np.array(volume.strides[2:]) + len(mapped) - volume.nbytes
    for channel in range(len(volume)):
        for number in range(low[0], high[0]):
            at = channel * volume.strides[0] + number * volume.strides[1]
            begin = first + at - (first + at) % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, int(begin), int(last + at + volume.itemsize - begin))


def window_starts(shape: Sequence[int], patch: Edges) -> list[Int[np.ndarray, " windows"]]:
    """Along each axis of a volume the first voxel of each window, as in `monai.inferers`: half a patch apart, and the last windows end with
    the volume. All windows are in the order of these numbers, those of the last axis first."""
    steps = [np.arange(-(-(length - edge) // (edge // 2)) + 1) * (edge // 2) for length, edge in zip(shape, patch, strict=True)]
    return [np.minimum(along, length - edge) for along, length, edge in zip(steps, shape, patch, strict=True)]


def cut_windows(volume: Shaped[np.ndarray, "c d h w"], patch: Edges) -> Shaped[np.ndarray, "windows c dd hh ww"]:
    """All windows of a volume at once; together they have up to eight times as many voxels."""
    places = product(*window_starts(volume.shape[1:], patch))
    return np.stack([volume[:, *(slice(at, at + edge) for at, edge in zip(place, patch, strict=True))] for place in places])


class Windows:
    """The windows of all volumes as one array [windows, C, d, h, w], of which rows are taken by a number or by numbers. Only what is taken
    is read."""

    ndim = 5

    def __init__(self, volumes: StoredVolumes) -> None:
        self.volumes, self.dtype = volumes, volumes.dtype
        self.sizes = np.array([math.prod(map(len, window_starts(shape, volumes.patch))) for shape in volumes.shapes.tolist()])
        self.starts = np.cumsum(self.sizes) - self.sizes

    def __len__(self) -> int:
        return int(self.sizes.sum())

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.volumes.shape[1:])

    def place(self, window: int) -> tuple[int, Int[np.ndarray, " 3"]]:
        """The volume of a window, and its first voxel there."""
        row = int(np.searchsorted(self.starts, window, "right")) - 1
        starts = window_starts(self.volumes.shapes[row].tolist(), self.volumes.patch)
        numbers = np.unravel_index(window - self.starts[row], [len(along) for along in starts])
        return row, np.array([along[number] for along, number in zip(starts, numbers, strict=True)])

    def centre(self, window: int) -> Int[np.ndarray, " 3"]:
        """The voxel of the volume that is the middle of the window."""
        return self.place(window)[1] + np.array(self.volumes.patch) // 2

    def __getitem__(self, windows: int | Int[np.ndarray, " b"]) -> Shaped[np.ndarray, "*b c d h w"]:
        if np.ndim(windows) == 0:
            return self.volumes.part(*self.place(int(windows)), self.volumes.patch)  # pyright: ignore[reportArgumentType]
        return np.stack([self[int(window)] for window in windows])  # pyright: ignore[reportGeneralTypeIssues]
