"""Whether a PNG's compressed stream holds all the rows that its header promises (PNG specification, sections 8 and 9.2).

Pillow fills missing rows with zeros when the stream itself is well formed; a lung base that turns black is no error to it.
"""

import zlib
from typing import BinaryIO

from PIL import Image

from medssl.errors import ReadError

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x, y, step x, step y


def check_length(picture: Image.Image, file: BinaryIO) -> None:
    """Raises ReadError short_data for a PNG with fewer bytes of pixels than its header promises; other formats pass."""
    if picture.format != "PNG" or _ends_in_data(picture):
        return
    file.seek(0)
    data = file.read()
    expected = _expected(data[16:29])
    if (found := _unpacked(data, expected)) < expected:
        raise ReadError(f"short_data: {found} of {expected} bytes of pixels are there")


def _ends_in_data(picture: Image.Image) -> bool:
    """Whether the last row was filled: rows come in order, unless they are interlaced, and missing ones are zeros."""
    last = picture.crop((0, picture.height - 1, picture.width, picture.height))
    return not picture.info.get("interlace") and any(last.tobytes())


def _expected(header: bytes) -> int:
    """Bytes of filtered rows: each row has one byte for its filter. `header`: the 13 bytes of IHDR."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _SAMPLES[header[9]]
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _unpacked(data: bytes, limit: int) -> int:
    """How many bytes the IDAT chunks unpack to, counted up to `limit`, a small piece in memory at a time."""
    inflate, found, at = zlib.decompressobj(), 0, 8
    while at + 8 <= len(data) and found < limit:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        piece = data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        while piece and found < limit:
            found += len(inflate.decompress(piece, 2**20))
            piece = inflate.unconsumed_tail
        at += 12 + length
    return found
