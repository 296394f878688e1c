"""The features of a store, in parts of about a thousand images. A finished part is a file, so that a stopped command goes on after it.

A group is what gets one row of features: an image, or a volume with the mean of its slices or windows. A part holds whole groups, so
that the memory depends on the size of a part, and not on the number of images.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Shaped
from torch import nn

from medssl.data.store import Store, Windows
from medssl.evaluate.models import extract
from medssl.files import atomic_file

_FORMAT = "medssl-feature-part-1"
_IMAGES, _BATCH = 1024, 256  # images of a part, whose features are in memory at once, and of a batch


@dataclass(frozen=True)
class Part:
    """`rows`: the rows of the store's inputs, group by group. `starts`: where each group begins in `rows`. `name`: a hash of the encoder,
    of the device's kind, of the images and of their groups."""

    rows: Int[np.ndarray, " n"]
    starts: Int[np.ndarray, " g"]
    name: str

    def compute(self, encoder: nn.Module, store: Store, device: torch.device, on_images: Callable[[int], None]) -> Float[np.ndarray, "g d"]:
        """The mean features of each group, float32. `on_images` is told after each batch how many images it had. Raises UserError for
        features that are not finite."""
        batches = []
        for rows in np.array_split(self.rows, -(-len(self.rows) // _BATCH)):
            batches.append(extract(encoder, store.inputs, rows, device))
            on_images(len(rows))
        features = np.concatenate(batches)
        sizes = np.diff(np.append(self.starts, len(self.rows)))
        return (np.add.reduceat(features.astype(np.float64), self.starts) / sizes[:, None]).astype(np.float32)

    def save(self, folder: Path, features: Float[np.ndarray, "g d"]) -> None:
        """Writes the part's file, which is complete or absent."""
        with atomic_file(folder / self.name) as file:
            np.save(file, features)

    def load(self, folder: Path) -> Float[np.ndarray, "g d"]:
        """What `save` has written. Raises OSError or ValueError where the file is missing or damaged."""
        features = np.load(folder / self.name, allow_pickle=False)
        if features.dtype != np.float32 or len(features) != len(self.starts):
            raise ValueError(f"{self.name} is not what was written")
        return features

    def is_saved(self, folder: Path) -> bool:
        """Whether the part's file is there and can be read."""
        try:
            self.load(folder)
        except (OSError, ValueError):
            return False
        return True


def image_groups(store: Store) -> Int[np.ndarray, " n"]:
    """The number of each row's group: every image is one of its own, and so are all windows of a volume that is read in windows."""
    inputs, images = store.inputs, np.arange(len(store.table))
    return np.repeat(images, inputs.sizes) if isinstance(inputs, Windows) else images


def volume_groups(table: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """The number of each row's group, in the order of the first row: the slices of a volume, or the frames of a film, are one group."""
    return pd.factorize(volume_keys(table))[0]


def volume_keys(table: pd.DataFrame) -> Shaped[np.ndarray, " n"]:
    """For each row the key of its series; that of the image where it belongs to none."""
    series = table["series"].to_numpy(str)
    return np.where(series != "", series, table["key"].to_numpy(str))


def make_parts(store: Store, groups: Int[np.ndarray, " n"], weights_sha256: str, device: torch.device, images: int = _IMAGES) -> list[Part]:
    """The parts, in the order of the groups, each of about so many `images`. The group of a window is its volume. `weights_sha256`: of the
    encoder."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    pixel_hashes = store.table["pixel_hash"].to_numpy(str)
    pixel_hashes = pixel_hashes[groups] if isinstance(store.inputs, Windows) else pixel_hashes
    parts = []
    for number, (first, end) in enumerate(_ranges(starts, len(order), images)):
        rows, own = order[first:end], starts[slice(*np.searchsorted(starts, (first, end)))] - first
        decisive = [_FORMAT, weights_sha256, device.type, pixel_hashes[rows].tolist(), own.tolist()]
        digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:32]
        parts.append(Part(rows, own, f"{number:06}-{digest}.npy"))
    return parts


def _ranges(starts: Int[np.ndarray, " g"], total: int, images: int) -> Iterator[tuple[int, int]]:
    """The positions from which and up to which each part goes: a new one begins with the first group after each multiple of `images`."""
    cuts = [0, *starts[1:][np.diff(starts // images) > 0].tolist(), total]
    yield from pairwise(cuts)
