"""Picture files by their first bytes: which formats are read, the size that a header states, and the pages of a file."""

import re
import warnings
from pathlib import Path

from PIL import Image

from medssl.data.formats import contiguous_planes, tiff_pages
from medssl.errors import ReadError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM", "WEBP", "JPEG2000")
_FIRST_BYTES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF87a", b"GIF89a")
_JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0")
_PORTABLE = re.compile(rb"P[1-6]\s(\s*#[^\n]*\n)*\s*\d+\s+\d+\s")  # PBM, PGM and PPM begin with text
_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the header that follows the 14 bytes of a BMP's file header
_TIFF = (b"II", b"MM")
_MAX_FRAMES = 10_000


def is_raster(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a picture in one of FORMATS."""
    if head[:2] == b"BM":
        return len(head) < 18 or int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return webp or head.startswith((*_FIRST_BYTES, *_JPEG_2000)) or _PORTABLE.match(head) is not None


def raster_size(path: Path) -> tuple[int, int]:
    """Width and height by the header of the file. Raises ReadError not_an_image where it is no picture that Pillow can open."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as picture:
            return picture.size
    except Exception as error:  # a damaged header makes Pillow raise any exception
        raise ReadError(f"not_an_image: the header cannot be read ({type(error).__name__})") from None


def picture_pages(path: Path) -> list[int]:
    """The indices of the pages, planes or frames of the file that are images, no thumbnails or masks. [0] where they cannot be read: the
    reader of the file then states the fault."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if head[:2] in _TIFF:
                stack = contiguous_planes.find_stack(file)
                return list(range(stack.planes)) if stack else tiff_pages.picture_pages(path)
        if head.startswith(b"GIF8") or head[8:12] == b"WEBP":
            with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("GIF", "WEBP")) as picture:
                return list(range(min(getattr(picture, "n_frames", 1), _MAX_FRAMES))) or [0]
    except Exception:  # a damaged file makes Pillow raise any exception
        return [0]
    return [0]
