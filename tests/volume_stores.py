"""Stores of volumes, written as `prepare` leaves them, for tests of what comes after it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.data.image_hash import dhash, pixel_hash
from medssl.data.store import STORE_FORMAT, Store, StoredVolumes


def in_one_file(file: Path, volumes: Sequence[np.ndarray], patch: tuple[int, int, int]) -> StoredVolumes:
    """Volumes [C, D, H, W] of any shapes in the flat file of a store, from which patches are read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.concatenate([volume.ravel() for volume in volumes]))
    bits = 8 * volumes[0].itemsize
    hashes = np.array([pixel_hash(volume, bits) for volume in volumes])
    shapes = np.array([volume.shape[1:] for volume in volumes])
    return StoredVolumes.open(file, shapes, len(volumes[0]), patch, hashes, np.full(len(volumes), bits))


def write_store(folder: Path, volumes: np.ndarray, labels: Sequence[str], columns: Mapping[str, Sequence[Any]] | None = None) -> Store:
    """The store of `volumes`, uint8 [N, C, D, H, W], each of a patient of its own. `columns`: of the table, in place of the usual ones."""
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", volumes)
    number, (depth, height, width) = len(volumes), volumes.shape[2:]
    keys = [hashlib.sha256(f"volume {row}".encode()).hexdigest() for row in range(number)]
    hashes = [pixel_hash(volume, 8) for volume in volumes]
    table = pd.DataFrame(
        {
            "key": keys,
            "patient": [key[::-1] for key in keys],
            "study": "",
            "series": keys,
            "site": "",
            "split": "",
            "pixel_hash": hashes,
            "pixel_key": hashes,
            "perceptual_hash": [f"{dhash(volume):016x}" for volume in volumes],
            "made": keys,
            "bits": 8,
            "depth": depth,
            "height": height,
            "width": width,
            "slice_mm": 1.0,
            "row_mm": 1.0,
            "column_mm": 1.0,
            "orientation": "LPS",
            "label:label": list(labels),
            **(columns or {}),
        }
    )
    table.to_parquet(folder / "table.parquet")
    settings = {"size": [depth, height, width], "channels": volumes.shape[1], "window": "header", "spacing_mm": None, "volumes": "whole"}
    card = {
        "format": STORE_FORMAT,
        "content": "0" * 64,
        "source": "nifti",
        "shape": list(volumes.shape),
        "dtype": "uint8",
        "channels": volumes.shape[1],
        "size": [depth, height, width],
        "patients": {"stated": number},
        "preparation": {"version": "3"},
        "settings": {**settings, "non_finite": "skip", "transforms": [], "used_bits": None},
        "counts": {"records": number, "used": number, "skipped": {}},
        "versions": {"medssl": "0", "readers": {"nifti": "2"}},
        "fingerprint": "0123456789abcdef",
        "site": "",
        "place": "",
        "table_sha256": hashlib.sha256((folder / "table.parquet").read_bytes()).hexdigest(),
    }
    (folder / "card.json").write_text(json.dumps(card))
    return Store.open(folder)
