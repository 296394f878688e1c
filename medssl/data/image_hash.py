"""Hashes of prepared images: one of the exact pixels, and a perceptual one that is equal or similar for images that look the same."""

import hashlib

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

Stored = UInt8[np.ndarray, "c ..."] | UInt16[np.ndarray, "c ..."]


def pixel_hash(image: Stored, bits: int) -> str:
    """32 hex characters of the SHA-256 of an image [C, H, W] or a volume [C, D, H, W]. `bits`: of the source's image. An 8-bit image has
    the same hash in a store of 16 bits."""
    if image.dtype == np.uint16 and bits <= 8:
        image = (image // 257).astype(np.uint8)
    return hashlib.sha256(image.tobytes()).hexdigest()[:32]


def dhash(image: Stored) -> int:
    """The 64 bits of dHash (D. Looks, "Kind of like that", 2013). The image is shrunk to 9 x 8 cells; each bit is 1 where a cell is darker
    than its right neighbour. The bits are in the order of the rows, the highest bit first.

    Cells are rounded to 256 grey levels, so noise of JPEG encoders in flat regions does not change the hash, and 8 and 16 bits give the
    same hash. An image of one grey level has the hash 0. Of a volume the slice in the middle counts.
    """
    cells = shrink(image, 9, 8)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def shrink(image: np.ndarray, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """The image [C, H, W] as `width` x `height` cells of 256 grey levels, of a volume its middle slice. A cell is the mean of the channels
    and of the pixels in it."""
    image = middle_slice(image)
    grey = image[0]
    if len(image) > 1 or grey.dtype != np.uint8:
        grey = np.rint(image.mean(axis=0, dtype=np.float32) * (255 / np.iinfo(image.dtype).max)).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))


def middle_slice(image: Stored) -> Stored:
    """The axial slice in the middle of a volume [C, D, H, W], as [C, H, W]; an image as it is."""
    return image[:, (image.shape[1] - 1) // 2] if image.ndim == 4 else image
