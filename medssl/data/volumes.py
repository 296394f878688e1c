"""The volumes of a store whose images are slices: what has a label, a place in the split and a prediction, where the labels are those of
volumes. Where networks see windows of stored volumes (data.volumes=patches), windows take the place of slices."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from medssl.data.split.leaks import flat_rows
from medssl.data.store import Store, StoredVolumes
from medssl.data.volume_slices import slice_rows
from medssl.types import SPLITS

_BLOCK = 1024  # slices whose features are in memory at once


class Slices(NamedTuple):
    """The slices of some volumes: their `rows` of the store, volume by volume, and where each volume begins among them."""

    rows: Int[np.ndarray, " s"]
    starts: Int[np.ndarray, " m"]


@dataclass(frozen=True)
class Volumes:
    """An image that is no slice is a volume of one image, and so is a volume that is stored whole.

    `images`: the store's table. `keys`: of each volume, in the order of their first slices, the key of its series. `rows`: the store's
    rows, volume by volume, the slices of each in their order in space. `starts`: where each volume begins among `rows`. `windowed`: the
    images are volumes, and `rows` are those of `store.inputs`, their windows.
    """

    images: pd.DataFrame
    keys: Shaped[np.ndarray, " v"]
    rows: Int[np.ndarray, " n"]
    starts: Int[np.ndarray, " v"]
    windowed: bool = False

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, store: Store) -> "Volumes":
        """The volumes of the store."""
        table = store.table
        if isinstance(store.images, StoredVolumes):
            windows = store.images.windows
            return cls(table, table["key"].to_numpy(str), np.arange(len(windows)), windows.starts, windowed=True)
        keys = np.where(slice_rows(store), table["series"].to_numpy(str), table["key"].to_numpy(str))
        number = pd.factorize(keys)[0]
        rows = np.argsort(number, kind="stable")
        starts = np.flatnonzero(np.diff(number[rows], prepend=-1))
        return cls(table, keys[rows[starts]], rows, starts)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each volume. Of slices it is the row of the first slice, but `key` is that of the volume, and `pixel_hash` is a hash
        of the pixels of all slices."""
        if self.windowed:
            return self.images
        pixels = self.images["pixel_hash"].to_numpy(str)[self.rows]
        table = self.images.iloc[self.first_rows].reset_index(drop=True)
        hashes = [hashlib.sha256("\n".join(each).encode()).hexdigest() for each in np.split(pixels, self.starts[1:])]
        return table.assign(key=self.keys, pixel_hash=hashes)

    @property
    def first_rows(self) -> Int[np.ndarray, " v"]:
        """The row of each volume, or of its first slice, in the store's table."""
        return np.arange(len(self)) if self.windowed else self.rows[self.starts]

    @cached_property
    def sizes(self) -> Int[np.ndarray, " v"]:
        """The number of slices of each volume."""
        return np.diff(np.append(self.starts, len(self.rows)))

    @cached_property
    def of_rows(self) -> Int[np.ndarray, " n"]:
        """The number of the volume that each row of the store belongs to."""
        volumes = np.empty(len(self.rows), np.int64)
        volumes[self.rows] = np.repeat(np.arange(len(self)), self.sizes)
        return volumes

    def slices(self, volumes: Int[np.ndarray, " m"]) -> Slices:
        """The slices of the volumes with these numbers, in that order."""
        sizes = self.sizes[volumes]
        starts = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(starts, sizes)
        return Slices(self.rows[np.repeat(self.starts[volumes], sizes) + within], starts)

    def blocks(self, volumes: Int[np.ndarray, " m"]) -> Iterator[Int[np.ndarray, " b"]]:
        """The numbers `volumes` in parts of whole volumes that have about 1,000 slices together."""
        block = np.cumsum(self.sizes[volumes]) // _BLOCK
        return iter(np.split(volumes, np.flatnonzero(np.diff(block)) + 1))

    def differing(self, values: Shaped[np.ndarray, "n k"]) -> int:
        """The number of volumes whose slices do not all have the same values; one row of them for each row of the store."""
        of_first = values[self.first_rows][self.of_rows]
        return len(np.unique(self.of_rows[(values != of_first).any(axis=1)]))

    def roles(self, of_rows: Shaped[np.ndarray, " n"], table: pd.DataFrame) -> Shaped[np.ndarray, " v"]:
        """The role of each volume, from those of the store's rows, whose `table` it is. A volume with a slice that must not be used ("")
        is not used, unless that slice is flat, as the empty ends of volumes are; else it has the highest of its slices' roles: a volume
        is never cut in two."""
        if self.windowed:
            return of_rows
        ranks = np.select([of_rows == role for role in SPLITS], [0, 1, 2], -1)
        highest = np.maximum.reduceat(ranks[self.rows], self.starts)
        leaks = (of_rows == "") & ~flat_rows(table)
        highest[np.logical_or.reduceat(leaks[self.rows], self.starts)] = -1
        return np.array([*SPLITS, ""])[highest]


def pooled_volumes(store: Store, counted: str) -> Volumes | None:
    """The volumes whose slices or windows are described and pooled, where the predictions are of `counted`; None where each image, or each
    whole volume, is described at once."""
    return Volumes.of(store) if counted == "volumes" or isinstance(store.images, StoredVolumes) else None


def find_volumes(store: Store, columns: Sequence[str]) -> tuple[Volumes | None, str]:
    """The volumes that the labels in `columns` belong to, and a sentence about them. None where each image counts for itself: the images
    are no slices, each volume has a single slice, or the labels differ between the slices of a volume; "" where there are no volumes."""
    volumes = Volumes.of(store)
    number, slices = len(volumes), len(volumes.rows)
    if volumes.windowed:
        return volumes, f"{number} volumes are described in {slices} windows, whose features are pooled"
    if number == slices:
        return None, ""
    labels = store.table[[f"label:{column}" for column in columns]].to_numpy(str)
    if differing := volumes.differing(labels):
        return None, (
            f"the slices of {differing} of {number} volumes have different labels or only some of them have one: so each slice has a label "
            "and a prediction of its own. Counts are slices, and features are not pooled"
        )
    return volumes, (
        f"{number} volumes of {slices} slices: a label, a place in the split and a prediction belong to a volume, and counts are volumes"
    )
