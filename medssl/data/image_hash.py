"""Hashes of prepared images and volumes: one of the exact pixels, and a perceptual one that is equal or similar for images that look the
same."""

import hashlib
import math

import numpy as np
from jaxtyping import Float64, Shaped, UInt8, UInt16
from PIL import Image

_VOXELS = 2**24  # of a volume that are numbers of 64 bits at once
Image8or16 = UInt8[np.ndarray, "c *edges"] | UInt16[np.ndarray, "c *edges"]


def pixel_hash(image: Image8or16, bits: int) -> str:
    """32 hex characters of the SHA-256 of an image [C, H, W] or a volume [C, D, H, W]. `bits`: of the source's image. An 8-bit image has
    the same hash in a store of 16 bits."""
    if image.dtype == np.uint16 and bits <= 8:
        image = (image // 257).astype(np.uint8)
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:32]


def dhash(image: Image8or16) -> int:
    """The 64 bits of dHash (D. Looks, "Kind of like that", 2013). The image is shrunk to 9 x 8 cells; each bit is 1 where a cell is darker
    than its right neighbour. The bits are in the order of the rows, the highest bit first.

    Cells are rounded to 256 grey levels, so noise of JPEG encoders in flat regions does not change the hash, and 8 and 16 bits give the
    same hash. An image of one grey level has the hash 0. A volume [C, D, H, W] is shrunk to 4 x 4 x 5 cells, of which 64 have a right
    neighbour.
    """
    cells = shrink(image, 9, 8) if image.ndim == 3 else shrink_volume(image, (4, 4, 5))
    return int.from_bytes(np.packbits(cells[..., 1:] > cells[..., :-1]).tobytes(), "big")


def shrink(image: np.ndarray, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """The image [C, H, W] as `width` x `height` cells of 256 grey levels. A cell is the mean of the channels and of the pixels in it."""
    return np.asarray(Image.fromarray(_grey(image)).resize((width, height), Image.Resampling.BOX))


def shrink_volume(volume: np.ndarray, cells: tuple[int, int, int]) -> UInt8[np.ndarray, "d h w"]:
    """The volume [C, D, H, W] as so many cells along its three axes, of 256 grey levels. A cell is the mean of the channels and of the
    voxels in it; voxels that a border cuts count by their parts. Of a large volume only a part is in memory as numbers of 64 bits."""
    parts = np.array_split(volume, -(-volume.size // _VOXELS), axis=2)
    through = np.concatenate([_sums(_grey(part), 0, cells[0]) for part in parts], axis=1)
    sums = _sums(_sums(through, 1, cells[1]), 2, cells[2])
    return np.rint(sums / (math.prod(volume.shape[1:]) / math.prod(cells))).astype(np.uint8)


def box_means(values: Shaped[np.ndarray, "d h w"], cells: tuple[int, int, int]) -> Float64[np.ndarray, "cells_d cells_h cells_w"]:
    """The mean of the values in each of so many cells along the three axes. Values that a border cuts count by their parts."""
    each = math.prod(values.shape) / math.prod(cells)
    for axis, number in enumerate(cells):
        values = _sums(values, axis, number)
    return values / each  # divided once: sums of whole numbers are exact, so the order of adding changes no hash


def _sums(values: Shaped[np.ndarray, "d h w"], axis: int, cells: int) -> Float64[np.ndarray, "new_d new_h new_w"]:
    """The sums of the values in so many cells along an axis."""
    return np.moveaxis(np.tensordot(_overlaps(values.shape[axis], cells), values.astype(np.float64), axes=(1, axis)), 0, axis)


def _overlaps(length: int, cells: int) -> Float64[np.ndarray, "cells length"]:
    """How much of each voxel of a row lies in each of the cells that divide the row evenly."""
    borders, places = np.arange(cells + 1) * length / cells, np.arange(length)
    return (np.minimum(borders[1:, None], places + 1) - np.maximum(borders[:-1, None], places)).clip(0)


def _grey(image: np.ndarray) -> UInt8[np.ndarray, "*edges"]:
    """The mean of the channels, of 256 grey levels."""
    if len(image) == 1 and image.dtype == np.uint8:
        return image[0]
    return np.rint(image.mean(axis=0, dtype=np.float32) * (255 / np.iinfo(image.dtype).max)).astype(np.uint8)
