"""The store: a folder with images.npy (read by memory map), table.parquet, skipped.csv, card.json and the audit. `prepare` writes it.

The table and the card hold no name, identifier, date, UID or path of a patient; keys are HMACs (keyed hashes).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from medssl.config import VOLUMETRIC, Data
from medssl.data.store.images import CheckedImages
from medssl.data.store.stored_volumes import StoredVolumes, Windows
from medssl.errors import UserError

STORE_FORMAT, VOLUME_FORMAT, PATCH_FORMAT = "medssl-store-2", "medssl-store-3", "medssl-store-4"  # of images, whole volumes, patches
STORED_EDGES = ["stored_slices", "stored_rows", "stored_columns"]  # of prepared volumes that differ in their shapes
TO_LPS = "to_lps"  # where the prepared voxels of such a volume lie in the patient
SUSPECT = "suspect.csv"  # which of the used images have signs of damage, and which
SETTINGS = (
    "volumes",
    "min_slices",
    "sequences",
    "size",
    "channels",
    "window",
    "spacing_mm",
    "non_finite",
    "transforms",
    "used_bits",
)  # the settings in `data` that decide the images
_OF_VOLUMES = ("volumes", "min_slices", "sequences")  # those that a card states for samples of three axes only
_CHECKED_ROWS, _CHECKED_BYTES = 64, 2**26


def store_format(data: Data) -> str:
    """The format of a store with those settings."""
    return {"slices": STORE_FORMAT, "whole": VOLUME_FORMAT, "patches": PATCH_FORMAT}[data.volumes]


def deciding_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings in `data` those that decide the images, as a store's card states them."""
    volumetric = data.get("volumes") in VOLUMETRIC  # earlier versions had no such setting
    return {name: data[name] for name in SETTINGS if name in data and (volumetric or name not in _OF_VOLUMES)}


@dataclass(frozen=True)
class Store:
    """`images`: read-only uint8 or uint16 [N, C, H, W], 0 to 255 or 65535; [N, C, D, H, W] of whole volumes. `table`: one row for each
    image, with the columns key, patient, study, series, site, split, pixel_hash, pixel_key (the keyed hash of pixel_hash; stores of earlier
    versions lack it), perceptual_hash, made (a hash of everything that decides the image), bits, height, width, row_mm, column_mm (these of
    the source's image), `label:<column>` and `extra:<name>`; text is str, "" where it is missing. `card`: the store's description.

    Whole volumes also have the columns depth, slice_mm, orientation (where the axes of the source's array point to, such as RAS; "" where
    it is unknown), filled (the missing slices that were interpolated) and tilt_degrees (of the gantry).

    Where patches are read (data.volumes=patches), `images` are `StoredVolumes`, and the table has the edges of each prepared volume
    (`STORED_EDGES`) and to_lps: 12 numbers, the rows of the matrix [3, 4] from (slice, row, column, 1) of the prepared voxels to the
    patient's (x, y, z) in mm, as DICOM has them. It is None where that is not known; stores of earlier versions lack the column."""

    path: Path
    images: CheckedImages | StoredVolumes
    table: pd.DataFrame
    card: dict[str, Any]

    @property
    def inputs(self) -> CheckedImages | Windows:
        """What networks describe: the images, or the windows of volumes of which patches are read."""
        return self.images.windows if isinstance(self.images, StoredVolumes) else self.images

    @classmethod
    def open(cls, path: Path) -> Store:
        """The store in that folder. Raises UserError where there is none or where it is damaged: the table's digest, the shapes, and the
        pixel hashes of 64 evenly spaced rows (of large volumes: fewer) are checked. `images` checks the others as they are first read, and
        raises UserError, too; but not where only patches of them are read."""
        try:
            card = json.loads((path / "card.json").read_text("utf-8"))
            table = pd.read_parquet(path / "table.parquet", use_threads=False)  # threads would keep 40 MB of memory for 100 000 rows
            pa.default_memory_pool().release_unused()
            images = _open_images(path / "images.npy", table, card)
            if not (fault := _fault(path, images, table, card)):
                return cls(path, images, table, card)
        except UserError as error:
            fault = str(error)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            fault = type(error).__name__
        raise UserError(f"{path} is no store that this version can read ({fault}). Prepare the data again.")


def _open_images(file: Path, table: pd.DataFrame, card: Mapping[str, Any]) -> CheckedImages | StoredVolumes:
    hashes, bits = table["pixel_hash"].to_numpy(), table["bits"].to_numpy()
    if card["format"] != PATCH_FORMAT:
        return CheckedImages.open(file, hashes, bits)
    deep, tall, wide = card["size"]
    return StoredVolumes.open(file, table[STORED_EDGES].to_numpy(np.int64), card["channels"], (deep, tall, wide), hashes, bits)


def _fault(path: Path, images: CheckedImages | StoredVolumes, table: pd.DataFrame, card: dict[str, Any]) -> str:
    """The fault of a damaged store as a sentence, "" where there is none. Raises UserError where the checked rows are damaged."""
    if card["format"] not in (STORE_FORMAT, VOLUME_FORMAT, PATCH_FORMAT):
        return f"format {card['format']}"
    if list(images.shape) != card["shape"] or str(images.dtype) != card["dtype"]:
        return "images.npy does not fit card.json"
    if len(table) != len(images) or hashlib.sha256((path / "table.parquet").read_bytes()).hexdigest() != card["table_sha256"]:
        return "table.parquet does not fit card.json"
    each = images.size * images.dtype.itemsize // len(images)
    rows = _CHECKED_ROWS if images.ndim == 4 else min(_CHECKED_ROWS, max(2, _CHECKED_BYTES // each))  # volumes are large
    if isinstance(images, StoredVolumes) and images.largest_bytes > _CHECKED_BYTES:
        rows = 0  # one volume may have as many bytes as the memory
    for row in np.unique(np.linspace(0, len(images) - 1, rows).astype(int)):
        images.check(int(row))
    return ""
