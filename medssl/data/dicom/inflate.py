"""Inflating deflated data sets (PS3.5 A.5) up to a limit. pydicom has no limit: a file of 1 MB can become 1 GB in memory."""

import zlib
from io import BytesIO
from typing import BinaryIO

from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medssl.config import Limits
from medssl.errors import ReadError

_BYTES_PER_PIXEL = 4  # of the largest image that the limits allow; the header is small in comparison
_META_BYTES = 1 << 16


def read_syntax(file: BinaryIO) -> UID:
    """The transfer syntax that the file states, found in the way of pydicom. The file's position is then the start of the data set."""
    file.seek(0)
    read_preamble(file, force=True)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    return UID(str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian))


def inflate(file: BinaryIO, limits: Limits) -> BinaryIO:
    """A stream to read the data set from: the file itself, at its start; for a deflated file the inflated data set in memory, without the
    file meta information.

    Raises ReadError deflated_too_big, and what pydicom and zlib raise for damaged files.
    """
    file.seek(0)
    deflated = DeflatedExplicitVRLittleEndian.encode() in file.read(_META_BYTES)  # a fast test first: most files are not deflated
    if not deflated or read_syntax(file) != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return file
    limit = _BYTES_PER_PIXEL * limits.max_pixels
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), limit + 1)
    if len(data) > limit:
        raise ReadError(f"deflated_too_big: inflates to more than {limit} bytes")
    return BytesIO(data)
