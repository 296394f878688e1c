"""Colour pictures of 16 bits a sample: Pillow hands out the upper eight, OpenCV all of them, and the two must agree."""

from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps

from medssl.errors import ReadError

_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "LA")
_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8


def is_deep(picture: Image.Image, file: BinaryIO) -> bool:
    """Whether the file, a PNG or TIFF, stores 16 bits a sample of more than one channel."""
    if picture.mode not in _MODES or picture.format not in ("PNG", "TIFF"):
        return False
    if picture.format == "TIFF":
        return set(getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, ())) == {16}
    file.seek(24)  # the bit depth in IHDR
    return file.read(1) == b"\x10"


def colours(picture: Image.Image, file: BinaryIO, page: int) -> Float[np.ndarray, "h w 3"]:
    """The picture upright, in [0, 1], transparency onto black. Raises ReadError undecodable where the decoders do not agree."""
    upright = ImageOps.exif_transpose(picture)
    coarse = np.asarray(upright.convert("RGBA") if upright.mode == "LA" else upright)
    for fine in _turned(_decoded(file, page)):
        if fine.shape[:2] == coarse.shape[:2] and (np.abs((fine[..., :3] >> 8).astype(int) - coarse[..., :3]) <= 1).all():
            whole = fine[..., :3] / 65535
            shown = fine.shape[2] == 4 and upright.has_transparency_data and upright.mode != "RGBa"  # which is multiplied already
            return whole * (fine[..., 3:] / 65535) if shown else whole
    raise ReadError("undecodable: two decoders give different pixels of 16 bits")


def _decoded(file: BinaryIO, page: int) -> Shaped[np.ndarray, "h w c"]:
    """uint16 [H, W, 3 or 4], red first, as stored."""
    import cv2  # of the formats read here, needed for this one only

    file.seek(0)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # OpenCV writes what it thinks of a file's tags to stderr
    try:
        _, pages = cv2.imdecodemulti(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED, range=(page, page + 1))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not pages or pages[0].dtype != np.uint16 or pages[0].ndim != 3 or pages[0].shape[2] not in (3, 4):
        raise ReadError("undecodable: the colours of 16 bits cannot be read")
    return pages[0][..., [2, 1, 0, 3][: pages[0].shape[2]]]


def _turned(stored: Shaped[np.ndarray, "h w c"]) -> list[np.ndarray]:
    """All eight orientations: which of them a decoder has already undone depends on the format and on its version."""
    return [np.rot90(side, turns) for side in (stored, stored[:, ::-1]) for turns in range(4)]
