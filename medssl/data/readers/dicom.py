"""DICOM: one frame of a radiograph (CR, DX, MG, US, SC and what resembles them) after the pixel contract.

pydicom decodes; the headers are checked before anything is allocated, and only the elements named here are read, so that
no name, number or date of a patient enters memory. `_dicom_intensity` turns stored values into [0, 1].
"""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medssl.config import Limits, PluginConfig
from medssl.data.readers import _codestream, _decoders, _dicom_intensity
from medssl.data.readers._file import opened
from medssl.data.readers._gdcm import Gdcm
from medssl.errors import ReadError
from medssl.types import Decoded

_SHAPE = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation")
_TAGS = ["SOPClassUID", *_SHAPE, "ExtendedOffsetTable", "ExtendedOffsetTableLengths", *_dicom_intensity.TAGS]
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PIXELS = (b"\xe0\x7f", b"\x7f\xe0")
# Segmentation, surface segmentation, RT dose: pixels that are no picture
_NO_IMAGES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.5", "1.2.840.10008.5.1.4.1.1.481.2")


class Config(PluginConfig):
    """`window`: header (the file's VOI LUT or first window, else its stored range), percentile, none (its stored range)."""

    name: str = "dicom"
    window: Literal["header", "percentile", "none"] = "header"
    limits: Limits = Limits()


class Reader:
    """Reads one frame of a DICOM file."""

    version = "1"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._gdcm = Gdcm()

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Frame `index` of a file, brighter being more.

        Raises ReadError: not_a_file, unreadable, empty, not_dicom, no_pixels, not_an_image, bad_header, too_many_pixels,
        deflated_too_big, truncated_pixels, missing_decoder, undecodable, constant, non_finite.
        """
        with opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what it mends: padding, odd VRs, missing frame numbers
            stream = _inflated(file, 4 * self._config.limits.max_pixels)
            with _failing_as("not_dicom", "no DICOM header can be read"):
                header = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
                syntax = _transfer_syntax(header)
            with _failing_as("bad_header", "an element that describes the pixels is missing or malformed"):
                _check(header, stream, syntax, index, self._config.limits)
            with _failing_as("undecodable", f"{syntax.name} cannot be decoded"):
                stored = _decoders.decode(stream, path, syntax, index, self._gdcm)
            with _failing_as("bad_header", "an element that describes the grey scale is malformed"):
                return _dicom_intensity.decoded(stored, header, index, self._config.window)


def build(config: Config) -> Reader:
    """The reader that `config` describes."""
    return Reader(config)


def recognises(head: bytes) -> bool:
    """Whether a file that starts with these bytes is DICOM: by its preamble, else by a first element of group 2 or 8."""
    if head[128:132] == b"DICM":
        return True
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    little = head[:2] in (b"\x02\x00", b"\x08\x00") and (explicit or head[6:8] == b"\0\0")
    return little or (head[:2] == b"\x00\x08" and explicit)


@contextmanager
def _failing_as(reason: str, sentence: str) -> Iterator[None]:
    """Any exception as a ReadError of that reason: a damaged file leads pydicom and its decoders to all kinds of them.
    The exception's own text is left out, it can quote the header."""
    try:
        yield
    except ReadError:
        raise
    except Exception as error:
        raise ReadError(f"{reason}: {sentence} ({type(error).__name__})") from error


def _inflated(file: BinaryIO, limit: int) -> BinaryIO:
    """The file; of a deflated one its data set, without file meta, in memory and no larger than `limit` bytes (PS3.5 A.5).
    pydicom would inflate it without a limit: 1 MB to 1 GB."""
    head = file.read(1024)
    file.seek(0)
    if head[128:132] != b"DICM" or _DEFLATED not in head:
        return file
    file.seek(144 + int.from_bytes(head[140:144], "little"))  # behind the meta group, whose length stands at byte 140
    with _failing_as("undecodable", "the deflated data set is damaged"):
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), limit + 1)
    if len(data) > limit:
        raise ReadError(f"deflated_too_big: more than {limit} bytes")
    return BytesIO(data)


def _transfer_syntax(header: Dataset) -> UID:
    """The file's transfer syntax, or, where it states none, the one in which pydicom found the elements readable."""
    if stated := header.file_meta.get("TransferSyntaxUID"):
        return UID(stated)
    if not header.preamble and not all(name in header for name in ("SOPClassUID", "Rows", "Columns")):
        raise ReadError("not_dicom: neither a preamble nor the elements of an image")
    implicit, little = header.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check(header: Dataset, stream: BinaryIO, syntax: UID, index: int, limits: Limits) -> None:
    """Refuses what is no picture and what cannot hold what it promises. `stream` stands at the pixel data or at the end."""
    here, there = stream.tell(), stream.seek(0, 2)
    stream.seek(here)
    start = stream.read(12)
    if header.get("SOPClassUID") in _NO_IMAGES or header.get("BitsAllocated") == 1:
        raise ReadError("not_an_image: a segmentation, a dose or a bit mask")
    if start[:2] not in _PIXELS:
        kind = UID(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "").name
        image = "Rows" in header or "Image Storage" in kind
        raise ReadError("truncated_pixels: the file ends before its pixels" if image else "no_pixels: not an image object")
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)
    frames, bytes_each = int(header.get("NumberOfFrames") or 1), int(header.BitsAllocated) // 8
    if samples not in (1, 3):
        raise ReadError(f"not_an_image: {samples} samples per pixel")
    if min(rows, columns) < 1 or not 0 <= index < frames <= there:
        raise ReadError(f"bad_header: frame {index} of {frames}, {rows} x {columns}, in {there} bytes")
    if rows * columns * samples > limits.max_pixels:
        raise ReadError(f"too_many_pixels: {rows} x {columns} x {samples}, the limit is {limits.max_pixels}")
    if syntax.is_encapsulated:
        _decoders.check(header, syntax)
        _codestream.check_items(stream, here + 12, there)
        with _failing_as("undecodable", "the compressed frames cannot be told apart"):
            _codestream.check_size(stream, here + 12, header, index)
        return
    share = 2 / 3 if header.PhotometricInterpretation == "YBR_FULL_422" else 1  # two pixels share their colour
    needed, present = (index + 1) * rows * columns * samples * bytes_each * share, _value_length(start, syntax, there - here)
    if present < needed:
        raise ReadError(f"truncated_pixels: {present} of {needed:.0f} bytes are there")


def _value_length(start: bytes, syntax: UID, left: int) -> int:
    """Bytes of the pixel data element that `start` opens: as it states, but no more than the `left` ones of the file."""
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    at = 4 if syntax.is_implicit_VR else 8
    return min(int.from_bytes(start[at : at + 4], order), left - at - 4)
