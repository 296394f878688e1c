"""Compressed frames: whether the file holds all of them, and the size that a frame itself states.

A decoder allocates what the codestream says, not what the DICOM header says; and one for JPEG-LS works for seconds on half a stream.
"""

from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from medssl.errors import ReadError

_ITEM = b"\xfe\xff\x00\xe0"  # (FFFE,E000), PS3.5 A.4
_JP2 = b"\0\0\0\x0cjP  "
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # tables among the markers of JPEG's start of frame, ITU-T T.81 table B.1
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - set(_NO_FRAMES)  # F7: JPEG-LS


def check_items(stream: BinaryIO, start: int, end: int) -> None:
    """Raises ReadError truncated_pixels where an item of the sequence from `start` reaches beyond the file's `end`."""
    at = start
    while at + 8 <= end:
        stream.seek(at)
        head = stream.read(8)
        if head[:4] != _ITEM:
            break  # the delimiter, or what pydicom will refuse
        at += 8 + int.from_bytes(head[4:], "little")
    if at > end:
        raise ReadError(f"truncated_pixels: {at - end} bytes of the compressed pixels are missing")


def check_size(stream: BinaryIO, start: int, header: Dataset, index: int) -> None:
    """Raises ReadError bad_header where the frame states other rows and columns than the header."""
    tables = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    offsets = (header[tables[0]].value, header[tables[1]].value) if all(name in header for name in tables) else None
    stream.seek(start)
    frame = get_frame(stream, index, number_of_frames=int(header.get("NumberOfFrames") or 1), extended_offsets=offsets)
    _check_boxes(frame)
    stated = size(frame)
    if stated is not None and stated != (header.Rows, header.Columns):
        raise ReadError(f"bad_header: the compressed frame has {stated[0]} x {stated[1]} pixels, not {header.Rows} x {header.Columns}")


def _check_boxes(frame: bytes) -> None:
    """Raises ReadError undecodable for a JP2 file with a box of no length: pydicom 3.0.2 would look for its end for ever."""
    at = 12 if frame.startswith(_JP2) else len(frame)
    while at + 8 <= len(frame) and frame[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(frame[at : at + 4], "big")
        if length < 8:
            raise ReadError("undecodable: a JPEG 2000 box that is shorter than its own head")
        at += length


def size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) as a JPEG, JPEG-LS or JPEG 2000 codestream states them, None for other or damaged ones."""
    if (at := frame.find(b"\xff\x4f\xff\x51", 0, 4096)) >= 0:  # JPEG 2000: SOC and SIZ, ITU-T T.800 A.5.1
        width, height, left, top = (int.from_bytes(frame[at + 8 + offset : at + 12 + offset], "big") for offset in (0, 4, 8, 12))
        return height - top, width - left
    at = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        if frame[at + 1] in _START_OF_FRAME:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        at += 1 if frame[at + 1] == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")  # a marker may be padded with FF
    return None
