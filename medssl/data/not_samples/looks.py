"""Opening a file to see whether it is a sample: its size, and some of its values as they are stored."""

import gzip
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from medssl.config import Limits
from medssl.data.formats import nifti_header, raster_files
from medssl.errors import ReadError

_PIXELS, _SLICES, _VOLUME_BYTES = 2**20, 16, 2**29


class Look(NamedTuple):
    """`grid`: the size of the image or volume along each axis. `values`: stored values [H, W], [H, W, 3] where there are `colours`, or
    [H, W, D] of a volume; of large images some rows, of volumes some slices."""

    grid: tuple[int, ...]
    values: Shaped[np.ndarray, "..."]
    colours: bool = False


def raster_look(path: Path) -> Look | None:
    """Of a picture file, of its first page; None where it cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=raster_files.FORMATS) as picture:
            if picture.width * picture.height > Limits().max_pixels:
                return None
            plain = picture if picture.mode[:1] in "1LIF" and picture.mode != "LA" else picture.convert("RGB")
            values = np.asarray(plain)
    except Exception:  # a damaged file makes Pillow's plugins raise any exception; its reader states the fault
        return None
    rows = values[:: max(1, values.shape[0] * values.shape[1] // _PIXELS)]
    if rows.ndim == 3 and (rows[..., :1] == rows).all():
        rows = rows[..., 0]
    return Look(values.shape[:2], rows, rows.ndim == 3)


def nifti_look(path: Path) -> Look | None:
    """Of a NIfTI file, of its first volume; None where it cannot be read or is very large."""
    try:
        header = nifti_header.read(path, Limits())
        if header.volume_bytes > _VOLUME_BYTES:
            return None
        with gzip.open(header.data) if nifti_header.is_gzip(header.data) else header.data.open("rb") as stream:
            values = nifti_header.voxels(header, stream, 0)
    except (ReadError, OSError, EOFError, zlib.error):
        return None
    values = values[..., 0] if values.ndim > 3 else values
    return Look(header.shape, values[:, :, :: max(1, values.shape[2] // _SLICES)])
