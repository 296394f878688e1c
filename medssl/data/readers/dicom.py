"""DICOM: reads one frame of an image as pixels in [0, 1].

pydicom decodes the frame. The header is checked before memory for pixels is allocated. Only the elements that are named here are read, so
no name, number or date of a patient enters memory. `functional_groups` reads the elements that multi-frame files state for each frame,
`dicom.intensity` turns stored values into grey values.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from pydantic import Field
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medssl.config import Limits, PluginConfig, Window
from medssl.data.dicom import codestream, decoders, functional_groups, intensity, slice_order
from medssl.data.dicom.decoders import Pixels
from medssl.data.dicom.inflate import inflate
from medssl.data.formats import LastOpened, open_regular_file, raise_if_of_the_machine, size_and_time
from medssl.errors import ReadError
from medssl.types import Decoded

_SHAPE = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation")
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_PLACE = (*slice_order.KEYWORDS, "ImageType", "SpacingBetweenSlices", "SliceThickness")
_NAMES = ("SOPClassUID", *_SHAPE, *_OFFSETS, *_PLACE, *functional_groups.TAGS, *intensity.TAGS)
_TAGS: list[BaseTag | int] = [Tag(name) for name in _NAMES]
_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
# Segmentation, surface segmentation and RT dose have pixels, but are no images
_NO_IMAGES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.5", "1.2.840.10008.5.1.4.1.1.481.2")


class Config(PluginConfig):
    name: str = "dicom"
    window: Window = Field(
        default="header",
        description="How grey values are scaled, as data.window; header is the file's VOI LUT or first window, else a window for its "
        "modality.",
    )
    non_finite: Literal["skip", "zero"] = Field(
        default="skip", description="A frame with NaN or infinite values is left out, or these values become 0."
    )
    used_bits: int | None = Field(default=None, description="As data.used_bits.")
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class _File(NamedTuple):
    """An open file whose header has been checked. `present`: the number of bytes of pixels that the file holds."""

    stream: BinaryIO
    header: Dataset
    syntax: UID
    pixels: Pixels
    present: int


class Values(NamedTuple):
    """`real`: float32 [H, W] in the modality's units, NaN where the pixels are padding. `low`, `high`: the least and the largest value that
    the file can store; infinite for floating-point values. `suspect`: as in `Decoded`."""

    real: np.ndarray
    low: float
    high: float
    suspect: str


class Reader:
    """Reads one frame of a DICOM file."""

    version = "2"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files = LastOpened[_File]()  # a header is read once for all frames of its file

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Frame `index` of a file, in [0, 1]; 1 is white.

        Raises ReadError: not_a_file, unreadable, empty, not_dicom, no_pixels, not_an_image, bad_header, too_many_pixels,
        too_much_memory, deflated_too_big, truncated_pixels, missing_decoder, undecodable, constant, empty_slice, non_finite,
        not_hounsfield, more_bits.
        """
        with _ignore_warnings():
            file, stored, suspect = self._decode(path, index)
            with _raise_as("bad_header", "an element that describes the grey scale is malformed"):
                header = functional_groups.merge_frame_groups(file.header, index)
                image, used = intensity.scale(stored, header, self._config.window, self._config.non_finite, self._config.used_bits)
                bits = int(header.get("BitsStored") or header.BitsAllocated)
                return Decoded(image, bits, functional_groups.spacing_mm(header), intensity.modality(header), used, suspect)

    def header(self, path: Path, index: int = 0) -> Dataset:
        """The checked header of frame `index`, with what the file states for this frame. Raises as `read` does."""
        with _ignore_warnings():
            file = self._opened(path)
            with _raise_as("bad_header", "an element that describes the pixels is missing or malformed"):
                _check_frame(file, index)
                return functional_groups.merge_frame_groups(file.header, index)

    def values(self, path: Path, index: int = 0) -> Values:
        """Frame `index` of a grey image in the modality's units. Raises as `read` does."""
        with _ignore_warnings():
            file, stored, suspect = self._decode(path, index)
            with _raise_as("bad_header", "an element that describes the grey scale is malformed"):
                header = functional_groups.merge_frame_groups(file.header, index)
                return Values(*intensity.real_values(stored, header, self._config.non_finite), suspect)

    def stored(self, path: Path, index: int = 0) -> np.ndarray:
        """The numbers that frame `index` stores, [H, W] or [H, W, 3], as pydicom's `pixel_array` gives them. Raises as `read` does."""
        with _ignore_warnings():
            return self._decode(path, index)[1]

    def _decode(self, path: Path, index: int) -> tuple[_File, np.ndarray, str]:
        file = self._opened(path)
        with _raise_as("bad_header", "an element that describes the pixels is missing or malformed"):
            _check_frame(file, index)
        with _raise_as("undecodable", f"{decoders.syntax_name(file.syntax)} cannot be decoded"):
            return file, *decoders.decode(file.stream, file.header, file.syntax, file.pixels, index)

    def _opened(self, path: Path) -> _File:
        return self._files.get((path, size_and_time(path)), lambda stack: _open(path, stack, self._config.limits))

    def files(self, path: Path) -> tuple[Path, ...]:
        """The file itself."""
        return (path,)


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


def _ignore_warnings() -> "warnings.catch_warnings[None]":
    """A context without warnings: pydicom warns of everything that it corrects, such as padding, odd VRs and missing frame numbers."""
    return warnings.catch_warnings(action="ignore")


@contextmanager
def _raise_as(reason: str, sentence: str) -> Iterator[None]:
    """Turns any exception into a ReadError with that reason: damaged files make pydicom and its decoders raise many kinds of exceptions.
    The exception's own text is left out because it can quote the header."""
    try:
        yield
    except ReadError:
        raise
    except Exception as error:
        raise_if_of_the_machine(error)
        raise ReadError(f"{reason}: {sentence} ({type(error).__name__})") from error


def _open(path: Path, stack: ExitStack, limits: Limits) -> _File:
    file = stack.enter_context(open_regular_file(path))
    with _raise_as("undecodable", "the deflated data set is damaged"):
        stream = inflate(file, limits)
    with _raise_as("not_dicom", "no DICOM header can be read"):
        header = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        syntax = _transfer_syntax(header)
    with _raise_as("bad_header", "an element that describes the pixels is missing or malformed"):
        return _check_file(stream, header, syntax, limits)


def _transfer_syntax(header: Dataset) -> UID:
    """The transfer syntax that the file states, or else the one with which pydicom could read the elements."""
    if stated := header.file_meta.get("TransferSyntaxUID"):
        return UID(stated)
    if not header.preamble and not all(name in header for name in ("SOPClassUID", "Rows", "Columns")):
        raise ReadError("not_dicom: neither a preamble nor the elements of an image")
    implicit, little = header.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_file(stream: BinaryIO, header: Dataset, syntax: UID, limits: Limits) -> _File:
    """The checked file. Raises ReadError for objects that are no images, and where the header does not fit the file or the limits. The
    position of `stream` is the start of the pixel data, or the end of a file without any."""
    pixel_start, file_end = stream.tell(), stream.seek(0, 2)
    if header.get("SOPClassUID") in _NO_IMAGES or header.get("BitsAllocated") == 1:
        raise ReadError("not_an_image: a segmentation, a dose or a bit mask")
    decoders.check_decoder(header, syntax)
    stream.seek(pixel_start)
    pixels, length = _parse_element(stream.read(12), pixel_start, syntax)
    if not pixels.keyword:
        kind = UID(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "").name
        image = "Rows" in header or "Image Storage" in kind
        raise ReadError("truncated_pixels: the file ends before its pixels" if image else "no_pixels: not an image object")
    rows, columns, samples, frames = _shape(header)
    if samples not in (1, 3):
        raise ReadError(f"not_an_image: {samples} samples per pixel")
    if min(rows, columns) < 1 or not 0 < frames <= file_end:
        raise ReadError(f"bad_header: {frames} frames of {rows} x {columns} in {file_end} bytes")
    if rows * columns * samples > limits.max_pixels:
        raise ReadError(f"too_many_pixels: {rows} x {columns} x {samples}, the limit is {limits.max_pixels}")
    if syntax.is_encapsulated:
        codestream.check_items(stream, pixels.start, file_end)
    return _File(stream, header, syntax, pixels, min(length, file_end - pixels.start))


def _shape(header: Dataset) -> tuple[int, int, int, int]:
    """Rows, columns, samples per pixel, frames."""
    samples, frames = (int(header.get(name) or 1) for name in ("SamplesPerPixel", "NumberOfFrames"))
    return int(header.Rows), int(header.Columns), samples, frames


def _check_frame(file: _File, index: int) -> None:
    """Raises ReadError for a frame that is missing, cut short, or not of the size that the header states."""
    rows, columns, samples, frames = _shape(file.header)
    if not 0 <= index < frames:
        raise ReadError(f"bad_header: frame {index} of {frames}")
    if file.syntax.is_encapsulated:
        with _raise_as("undecodable", "the compressed frames cannot be separated"):
            codestream.check_size(file.stream, file.pixels.start, file.header, index)
        return
    share = 2 / 3 if file.header.PhotometricInterpretation == "YBR_FULL_422" else 1  # two neighbouring pixels share their colour
    needed = (index + 1) * rows * columns * samples * (file.header.BitsAllocated // 8) * share
    if file.present < needed:
        raise ReadError(f"truncated_pixels: {file.present} of {needed:.0f} bytes are there")


def _parse_element(head: bytes, at: int, syntax: UID) -> tuple[Pixels, int]:
    """The element whose first 12 bytes are `head`, at byte `at` of the file, and its stated length. Its keyword is "" where it holds no
    pixels."""
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    vr, size = ("", 8) if syntax.is_implicit_VR else (head[4:6].decode("latin-1"), 12)
    return Pixels(_PIXELS.get(tag, ""), vr, at + size), int.from_bytes(head[size - 4 : size], order)
