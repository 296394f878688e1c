"""Deflated data sets (PS3.5 A.5), inflated within a limit. pydicom would inflate them without one: 1 MB becomes 1 GB."""

import zlib
from io import BytesIO
from typing import BinaryIO

from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medssl.config import Limits
from medssl.errors import ReadError

_BYTES_PER_PIXEL = 4  # of the largest image that the limits allow; its header is small beside it
_META_BYTES = 1 << 16


def read_syntax(file: BinaryIO) -> UID:
    """The transfer syntax that the file states, found as pydicom finds it. The file then stands at the data set."""
    file.seek(0)
    read_preamble(file, force=True)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    return UID(str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian))


def inflate(file: BinaryIO, limits: Limits) -> BinaryIO:
    """The file from its start; of a deflated one its data set, without file meta, in memory.

    Raises ReadError deflated_too_big, and what pydicom and zlib raise on damaged files.
    """
    file.seek(0)
    deflated = DeflatedExplicitVRLittleEndian.encode() in file.read(_META_BYTES)  # a quick look: most files are not
    if not deflated or read_syntax(file) != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return file
    most = _BYTES_PER_PIXEL * limits.max_pixels
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), most + 1)
    if len(data) > most:
        raise ReadError(f"deflated_too_big: inflates to more than {most} bytes")
    return BytesIO(data)
