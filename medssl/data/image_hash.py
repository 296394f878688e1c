"""Hashes of prepared images: one of the exact pixels, and one that copies share which only look the same."""

import hashlib

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image


def pixel_hash(image: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"], bits: int) -> str:
    """32 hex characters of the SHA-256 of an image [C, H, W] that stores `bits`: the same in a store of 8 and of 16 bits."""
    if image.dtype == np.uint16 and bits <= 8:
        image = (image // 257).astype(np.uint8)
    return hashlib.sha256(image.tobytes()).hexdigest()[:32]


def dhash(image: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"]) -> int:
    """The 64 bits of dHash (D. Looks, "Kind of like that", 2013): each says whether a cell of the image, shrunk to 9 x 8, is darker than
    its right neighbour; row by row, the first bit is the highest.

    The hash is the same for 8 and 16 bits: cells are rounded to 256 grey levels, so that an encoder's noise in flat regions does not
    count. An image of one grey level has the hash 0.
    """
    cells = shrink(image, 9, 8)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def shrink(image: np.ndarray, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """The mean of the channels in 256 grey levels; each cell is the mean of the pixels that it covers."""
    grey = image[0]
    if len(image) > 1 or grey.dtype != np.uint8:
        grey = np.rint(image.mean(axis=0, dtype=np.float32) * (255 / np.iinfo(image.dtype).max)).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))
