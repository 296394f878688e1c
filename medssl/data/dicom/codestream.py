"""Checks of compressed frames before they are decoded: whether the file holds all their bytes, and which size and colours a frame states.

A decoder allocates memory for the size in the compressed frame, not for the size in the DICOM header. A JPEG-LS decoder works for seconds
on a frame that is cut in half.
"""

from collections.abc import Iterator
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from medssl.errors import ReadError

_ITEM_TAG = b"\xfe\xff\x00\xe0"  # (FFFE,E000), PS3.5 A.4
_JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_NO_START_OF_FRAME = (0xC4, 0xC8, 0xCC)  # markers between C0 and CF that start a table instead of a frame, ITU-T T.81 table B.1
_APP_0, _APP_14 = 0xE0, 0xEE  # markers of JFIF and of Adobe
_RGB_NAMES = [0x52, 0x47, 0x42]  # components that are called R, G and B
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - set(_NO_START_OF_FRAME)  # F7: JPEG-LS


def check_items(stream: BinaryIO, start: int, end: int) -> None:
    """Raises ReadError truncated_pixels where a compressed item reaches beyond the file's end. `start`, `end`: positions in the file in
    bytes; the sequence of items begins at `start`."""
    position = start
    while position + 8 <= end:
        stream.seek(position)
        head = stream.read(8)
        if head[:4] != _ITEM_TAG:
            break  # the end of the sequence, or bytes that pydicom will refuse
        position += 8 + int.from_bytes(head[4:], "little")
    if position > end:
        raise ReadError(f"truncated_pixels: {position - end} bytes of the compressed pixels are missing")


def check_size(stream: BinaryIO, start: int, header: Dataset, index: int) -> None:
    """Raises ReadError bad_header where frame `index` states other rows and columns than the header. `start`: the byte in the file where
    the sequence of compressed items begins."""
    frame = read_frame(stream, start, header, index)
    _check_boxes(frame)
    stated = frame_size(frame)
    if stated is not None and stated != (header.Rows, header.Columns):
        raise ReadError(f"bad_header: the compressed frame has {stated[0]} x {stated[1]} pixels, not {header.Rows} x {header.Columns}")


def read_frame(stream: BinaryIO, start: int, header: Dataset, index: int) -> bytes:
    """The compressed bytes of frame `index`. `start`: as in `check_size`."""
    keywords = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    offsets = (header[keywords[0]].value, header[keywords[1]].value) if all(name in header for name in keywords) else None
    stream.seek(start)
    return get_frame(stream, index, number_of_frames=int(header.get("NumberOfFrames") or 1), extended_offsets=offsets)


def _check_boxes(frame: bytes) -> None:
    """Raises ReadError undecodable for a JP2 file with a box of length 0: pydicom 3.0.2 would search the end of that box for ever."""
    position = 12 if frame.startswith(_JP2_SIGNATURE) else len(frame)
    while position + 8 <= len(frame) and frame[position + 4 : position + 8] != b"jp2c":
        length = int.from_bytes(frame[position : position + 4], "big")
        if length < 8:
            raise ReadError("undecodable: a JPEG 2000 box that is shorter than its own head")
        position += length


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) as a JPEG, JPEG-LS or JPEG 2000 frame states them, None for other formats and damaged frames."""
    if (position := frame.find(b"\xff\x4f\xff\x51", 0, 4096)) >= 0:  # JPEG 2000: SOC and SIZ, ITU-T T.800 A.5.1
        width, height, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in range(position + 8, position + 24, 4))
        return height - top, width - left
    start = next((segment for marker, segment in _segments(frame) if marker in _START_OF_FRAME), b"")
    return (int.from_bytes(start[1:3], "big"), int.from_bytes(start[3:5], "big")) if len(start) >= 5 else None


def colour_model(frame: bytes) -> str:
    """The colours that a JPEG frame of three components holds for certain: "YBR" or "RGB"; "" where it does not say, and for other frames.

    Adobe's marker and the components' names say it (ITU-T T.872, 6.5.3); JFIF files are YBR; and so are frames whose colours have fewer
    pixels than their brightness.
    """
    jfif = False
    for marker, segment in _segments(frame):
        if _is_adobe(marker, segment):
            return {0: "RGB", 1: "YBR"}.get(segment[11], "")
        jfif = jfif or (marker == _APP_0 and segment.startswith(b"JFIF\0"))
        if marker in _START_OF_FRAME:
            names, sampling = list(segment[6:15:3]), set(segment[7:15:3])
            if len(segment) < 15 or segment[5] != 3:
                return ""
            return "RGB" if names == _RGB_NAMES else "YBR" if jfif or len(sampling) > 1 else ""
    return ""


def has_adobe_marker(frame: bytes) -> bool:
    """Whether a JPEG frame has the marker by which programs of Adobe state its colours."""
    return any(_is_adobe(marker, segment) for marker, segment in _segments(frame))


def _is_adobe(marker: int, segment: bytes) -> bool:
    return marker == _APP_14 and segment.startswith(b"Adobe") and len(segment) >= 12


def contradicts(frame: bytes, photometric: str) -> bool:
    """Whether a JPEG frame holds other colours for certain than the header's photometric interpretation states."""
    stated = {"RGB": "RGB", "YBR_FULL": "YBR", "YBR_FULL_422": "YBR"}.get(photometric.strip(), "")
    return bool(stated) and colour_model(frame) not in ("", stated)


def _segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker segments of a JPEG or JPEG-LS frame up to its start of frame, as (marker, bytes behind the length)."""
    position = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        if frame[position + 1] == 0xFF:  # a marker may be padded with FF
            position += 1
            continue
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        yield frame[position + 1], frame[position + 4 : position + 2 + length]
        if frame[position + 1] in _START_OF_FRAME:
            return
        position += 2 + length
