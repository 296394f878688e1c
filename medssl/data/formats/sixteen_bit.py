"""Colour images with 16 bits for each channel. Pillow returns only the upper 8 bits, OpenCV all 16; the two must agree."""

import mmap
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps

from medssl.data.formats import tiff_pages
from medssl.errors import ReadError

_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "LA")
_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8


def has_16_bit_colours(picture: Image.Image, file: BinaryIO) -> bool:
    """Whether the file is a PNG or TIFF of several channels with 16 bits each."""
    if picture.mode not in _MODES or picture.format not in ("PNG", "TIFF"):
        return False
    if picture.format == "TIFF":
        return set(getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, ())) == {16}
    file.seek(24)  # the bit depth in IHDR
    return file.read(1) == b"\x10"


def read_colours(picture: Image.Image, file: BinaryIO, directory: int | None = None) -> Float[np.ndarray, "h w 3"]:
    """The image in its EXIF orientation, in [0, 1], on a black background where it is transparent. `directory`: the position of the
    page's directory in a TIFF file, None for its first page. Raises ReadError undecodable where the pixels of Pillow and OpenCV differ."""
    upright = ImageOps.exif_transpose(picture)
    upper_bytes = np.asarray(upright.convert("RGBA") if upright.mode == "LA" else upright)
    for candidate in _orientations(_decode_with_opencv(file, directory)):
        same_shape = candidate.shape[:2] == upper_bytes.shape[:2]
        if same_shape and (np.abs((candidate[..., :3] >> 8).astype(int) - upper_bytes[..., :3]) <= 1).all():
            pixels = candidate[..., :3] / 65535
            transparent = candidate.shape[2] == 4 and upright.has_transparency_data and upright.mode != "RGBa"  # RGBa: multiplied already
            return pixels * (candidate[..., 3:] / 65535) if transparent else pixels
    raise ReadError("undecodable: two decoders give different pixels of 16 bits")


def _decode_with_opencv(file: BinaryIO, directory: int | None) -> Shaped[np.ndarray, "h w c"]:
    """uint16 [H, W, 3 or 4] in the order red, green, blue, alpha, in the orientation that OpenCV gives it."""
    import cv2  # slow to import, and needed for these images only

    content = _private_bytes(file)
    if directory is not None:
        tiff_pages.first_directory(content, directory)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # OpenCV writes warnings about a file's tags to stderr
    try:
        _, pages = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED, range=(0, 1))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not pages or pages[0].dtype != np.uint16 or pages[0].ndim != 3 or pages[0].shape[2] not in (3, 4):
        raise ReadError("undecodable: the colours of 16 bits cannot be read")
    return pages[0][..., [2, 1, 0, 3][: pages[0].shape[2]]]


def _private_bytes(file: BinaryIO) -> Shaped[np.ndarray, " bytes"]:
    """The bytes of a file, which can be changed without changing the file. Those of a file on a drive are read as they are needed."""
    try:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    except OSError:  # a stream in memory has no number
        file.seek(0)
        return np.frombuffer(bytearray(file.read()), np.uint8)


def _orientations(stored: Shaped[np.ndarray, "h w c"]) -> list[np.ndarray]:
    """The image in all eight orientations: whether OpenCV has applied the EXIF orientation depends on the format and on its version."""
    return [np.rot90(side, turns) for side in (stored, stored[:, ::-1]) for turns in range(4)]
