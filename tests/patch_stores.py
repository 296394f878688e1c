"""A store of volumes from which patches are read, made by a preparation, and lengthened to any size."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from whole_volumes import write_nifti

from medssl.config import Data
from medssl.data.prepare import prepare
from medssl.data.sources import nifti
from medssl.data.store import Store
from medssl.data.volume_records import as_volumes

SPACING = (2.0, 1.0, 1.0)


def prepared(folder: Path, arrays: dict[str, np.ndarray], **settings: object) -> Store:
    """The store of these arrays, [D, H, W] in canonical axes with voxels of SPACING."""
    for name, volume in arrays.items():
        write_nifti(folder / "data" / f"{name}.nii.gz", volume, spacing=SPACING)
    data = Data.model_validate({"volumes": "patches", "size": 16, "spacing_mm": list(SPACING), **settings})
    return prepare(as_volumes(nifti.build(nifti.Config(), str(folder / "data")), data), data, folder / "cache")


def small_store(folder: Path) -> Path:
    """Of ten volumes."""
    random = np.random.default_rng(0)
    return prepared(folder, {f"v{n}": random.integers(0, 1000, (20, 24, 30), np.int16) for n in range(10)}, size=32).path


def enlarge(store: Path, shape: tuple[int, int, int]) -> Path:
    """The store as if each volume had that shape, with nothing on the disk for the voxels."""
    file, card = store / "images.npy", json.loads((store / "card.json").read_text())
    table = pd.read_parquet(store / "table.parquet").assign(stored_slices=shape[0], stored_rows=shape[1], stored_columns=shape[2])
    table.to_parquet(store / "table.parquet")
    voxels = len(table) * int(np.prod(shape))
    with file.open("wb") as images:
        npy.write_array_header_1_0(images, {"descr": card["dtype"], "fortran_order": False, "shape": (voxels,)})
        images.truncate(images.tell() + voxels * np.dtype(card["dtype"]).itemsize)
    card["table_sha256"] = hashlib.sha256((store / "table.parquet").read_bytes()).hexdigest()
    (store / "card.json").write_text(json.dumps(card))
    return store
