"""Checks of compressed frames before they are decoded: whether the file holds all their bytes, and which size a frame states.

A decoder allocates memory for the size in the compressed frame, not for the size in the DICOM header. A JPEG-LS decoder works for seconds
on a frame that is cut in half.
"""

from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from medssl.errors import ReadError

_ITEM_TAG = b"\xfe\xff\x00\xe0"  # (FFFE,E000), PS3.5 A.4
_JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_NO_START_OF_FRAME = (0xC4, 0xC8, 0xCC)  # markers between C0 and CF that start a table instead of a frame, ITU-T T.81 table B.1
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
    keywords = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    offsets = (header[keywords[0]].value, header[keywords[1]].value) if all(name in header for name in keywords) else None
    stream.seek(start)
    frame = get_frame(stream, index, number_of_frames=int(header.get("NumberOfFrames") or 1), extended_offsets=offsets)
    _check_boxes(frame)
    stated = frame_size(frame)
    if stated is not None and stated != (header.Rows, header.Columns):
        raise ReadError(f"bad_header: the compressed frame has {stated[0]} x {stated[1]} pixels, not {header.Rows} x {header.Columns}")


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
    position = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        if frame[position + 1] in _START_OF_FRAME:
            return int.from_bytes(frame[position + 5 : position + 7], "big"), int.from_bytes(frame[position + 7 : position + 9], "big")
        padded = frame[position + 1] == 0xFF  # a marker may be padded with FF
        position += 1 if padded else 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None
