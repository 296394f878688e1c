"""From a record to the image that the store keeps, with what is known of it only once it has been read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from medssl.config import Data
from medssl.data.preparation import Preparation
from medssl.data.reading import Reading
from medssl.data.split.near_duplicates import dhash
from medssl.types import Record


@dataclass(frozen=True, slots=True)
class Prepared:
    """`image`: uint8 or uint16 [C, size, size]. `bits`, `height`, `width`, `spacing_mm`: of the source's own image."""

    image: np.ndarray
    bits: int
    height: int
    width: int
    spacing_mm: tuple[float, float] | None
    pixel_hash: str
    perceptual_hash: str


class Preparer:
    """Reads and prepares one record after another."""

    def __init__(self, root: Path, data: Data) -> None:
        self._read = Reading(root, data)
        self._prepare = Preparation(data)

    def __call__(self, record: Record) -> Prepared:
        """Raises ReadError where the record cannot be used."""
        decoded = self._read(record)
        image = self._prepare(decoded)
        height, width = decoded.pixels.shape[1:]
        pixels, perceptual = pixel_hash(image, decoded.bits), f"{dhash(image):016x}"
        return Prepared(image, decoded.bits, height, width, decoded.spacing_mm, pixels, perceptual)


def pixel_hash(image: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"], bits: int) -> str:
    """32 hex characters of the sha256 over an image [C, H, W] as its own depth has it: the same in a store of 8 and of 16 bits."""
    if image.dtype == np.uint16 and bits <= 8:
        image = (image // 257).astype(np.uint8)
    return hashlib.sha256(image.tobytes()).hexdigest()[:32]
