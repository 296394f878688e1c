"""Whether a PNG's compressed stream holds all rows that its header states (PNG specification, sections 8 and 9.2).

Pillow fills missing rows with zeros and raises no error where the stream itself is well formed: the lower part of a lung would be black.
"""

import zlib
from typing import BinaryIO

from PIL import Image

from medssl.errors import ReadError

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples of a pixel
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # each pass: first x, first y, step in x, step in y


def check_length(picture: Image.Image, file: BinaryIO) -> None:
    """Raises ReadError short_data for a PNG with fewer bytes of pixels than its header states. Other formats are not checked."""
    if picture.format != "PNG" or _last_row_is_filled(picture):
        return
    file.seek(0)
    data = file.read()
    expected = _expected_bytes(data[16:29])
    if (found := _count_unpacked_bytes(data, expected)) < expected:
        raise ReadError(f"short_data: {found} of {expected} bytes of pixels are there")


def _last_row_is_filled(picture: Image.Image) -> bool:
    """Whether the last row has a pixel above 0. Rows of a PNG that is not interlaced come in order and missing rows are 0, so no row is
    missing then."""
    last = picture.crop((0, picture.height - 1, picture.width, picture.height))
    return not picture.info.get("interlace") and any(last.tobytes())


def _expected_bytes(header: bytes) -> int:
    """The number of unpacked bytes that all rows need, each with one more byte for its filter. `header`: the 13 bytes of IHDR."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _SAMPLES[header[9]]
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _count_unpacked_bytes(data: bytes, limit: int) -> int:
    """The number of bytes that the IDAT chunks of `data` unpack to, counted up to `limit`. At most 1 MB of them is in memory."""
    inflate, found, position = zlib.decompressobj(), 0, 8
    while position + 8 <= len(data) and found < limit:
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        piece = data[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
        while piece and found < limit:
            found += len(inflate.decompress(piece, 2**20))
            piece = inflate.unconsumed_tail
        position += 12 + length
    return found
