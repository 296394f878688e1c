"""Reading one DICOM header for the description of its frames. Only the tags that are needed are read, never pixels."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pydicom
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from medssl.config import Limits
from medssl.data.dicom import codestream, decoders, selection, slice_order
from medssl.data.dicom.inflate import inflate, read_syntax
from medssl.data.dicom.marks import KEYWORDS, Marks, marks
from medssl.data.dicom.modalities import known_code
from medssl.data.dicom.selection import Selection
from medssl.data.dicom.slice_order import Plane
from medssl.data.formats import raise_if_of_the_machine
from medssl.errors import ReadError

_KEYWORDS = (
    "InstitutionName Manufacturer ManufacturerModelName PatientID PatientSex PatientAge ViewPosition StudyInstanceUID SeriesInstanceUID "
    "SOPInstanceUID AccessionNumber InstanceNumber SamplesPerPixel NumberOfFrames Rows Columns BitsAllocated BitsStored RescaleIntercept "
    "RescaleSlope PhotometricInterpretation"
)
_TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in (*_KEYWORDS.split(), *selection.KEYWORDS, *slice_order.KEYWORDS, *KEYWORDS)]
# values of Modality (PS3.3 C.7.3.1.1.1) of objects that are no images, though some of them have Rows and Columns
_NO_IMAGES = {"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "REG", "FID", "DOC", "ECG", "AU"}
_COMPRESSED_PIXELS = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"  # the element PixelData, of undefined length (PS3.5 A.4)
_FIRST_BYTES = 1 << 20  # enough for the header and the head of the first frame
_PREAMBLES = (bytes(4), b"II*\0", b"MM\0*")  # first bytes of a preamble that is unused, or that makes the file a TIFF, too (PS3.10 7.1)


class DicomHeader(NamedTuple):
    """What the header states of a file and its frames. `number`: InstanceNumber; `planes`: one for each frame, None where the header states
    none; `marks`: of each frame, by which images of one place are told apart; `syntax`: the name of the transfer syntax;
    `secondary_capture`: a screen or a digitised film; `other_colours`: the frame holds other colours than the header states;
    `odd_preamble`: the preamble is neither unused nor that of a TIFF file; `instance`: the SOPInstanceUID, by which tables name files, as
    they name studies by `accession`, the AccessionNumber; `burned_in_unstated`: images of this kind often show text, and the header does
    not state whether this one does."""

    locator: str
    patient: str
    study: str | None
    series: str | None
    site: str | None
    number: int | None
    extra: Mapping[str, str]
    planes: tuple[Plane | None, ...]
    marks: tuple[Marks, ...]
    syntax: str
    patient_id_missing: bool
    burned_in_unstated: bool
    odd_preamble: bool
    empty_rescale: bool
    secondary_capture: bool
    other_colours: bool
    instance: str
    accession: str


class HeaderReader:
    """Reads the headers of the files below `root`, one by one."""

    def __init__(self, root: Path, limits: Limits, choice: Selection) -> None:
        self._root = root
        self._limits = limits
        self._choice = choice

    def __call__(self, locator: str) -> DicomHeader:
        """What the header of that file states. Raises ReadError: empty, not_dicom, not_an_image, no_pixels, bad_header, too_many_frames,
        deflated_too_big, unreadable, too_much_memory, not_primary, burned_in, missing_decoder, undecodable."""
        path = self._root / locator
        try:
            with warnings.catch_warnings(action="ignore"):  # pydicom warns of every odd value; these values are not used here
                header, syntax, odd_preamble = _read(path, self._limits)
                frames = _count_frames(header, path.stat().st_size, syntax, self._limits)
                selection.check_selected(header, modality(header), self._choice)
                decoders.check_decoder(header, syntax)
                other_colours = syntax in decoders.JPEG_COLOURS and _has_other_colours(path, header)
                return _describe(header, locator, frames, syntax, odd_preamble)._replace(other_colours=other_colours)
        except ReadError:
            raise
        except Exception as error:  # a damaged header makes pydicom raise any exception; its text quotes the header and is left out
            raise_if_of_the_machine(error)
            raise ReadError(f"bad_header: pydicom cannot read it ({type(error).__name__})") from None


def image_shape(path: Path) -> tuple[int, int, int]:
    """Frames, rows and columns of a DICOM image by its header. Raises ReadError as HeaderReader does where the file is no image."""
    try:
        with warnings.catch_warnings(action="ignore"):
            header, syntax, _ = _read(path, Limits())
            return _count_frames(header, path.stat().st_size, syntax, Limits()), int(header.Rows), int(header.Columns)
    except ReadError:
        raise
    except Exception as error:  # as above
        raise ReadError(f"bad_header: pydicom cannot read it ({type(error).__name__})") from None


def modality(header: pydicom.Dataset) -> str:
    """The modality's code in capital letters; "" for any other text in that element."""
    return known_code(_text(header, "Modality"))


def _read(path: Path, limits: Limits) -> tuple[pydicom.Dataset, UID, bool]:
    with path.open("rb") as file:
        if not file.read(1):
            raise ReadError("empty: the file has no bytes")
        part_10 = _is_part_10(file)
        if not part_10 and not _may_lack_preamble(file):
            raise ReadError("not_dicom: neither 'DICM' after 128 bytes nor a bare data set")
        file.seek(0)
        odd_preamble = part_10 and file.read(4) not in _PREAMBLES
        syntax = read_syntax(file)
        header = _read_tags(inflate(file, limits))
    if not part_10 and "SOPClassUID" not in header:
        raise ReadError("not_dicom: a data set without SOPClassUID")
    return header, syntax, odd_preamble


def _count_frames(header: pydicom.Dataset, size: int, syntax: UID, limits: Limits) -> int:
    """The number of frames. Raises ReadError where the header describes no image, more pixels than a file of `size` bytes can hold, or more
    frames than the limit."""
    if "Rows" not in header or "Columns" not in header:
        kind = _text(header, "SOPClassUID") or _text(header.file_meta, "MediaStorageSOPClassUID")  # a file may be cut before the first
        if "Image Storage" in UID(kind).name and modality(header) not in _NO_IMAGES:
            raise ReadError("bad_header: an image without Rows and Columns; it may be cut short")
        raise ReadError(f"no_pixels: no Rows and Columns (modality {modality(header) or 'unknown'})")
    if modality(header) in _NO_IMAGES:
        raise ReadError(f"not_an_image: modality {modality(header)}")
    rows, columns, frames = int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)
    if min(rows, columns, frames) < 1:
        raise ReadError(f"bad_header: {frames} frames of {rows} x {columns} pixels")
    frame_bytes = 8  # the smallest compressed frame: the tag and the length of an item
    if not syntax.is_encapsulated and not syntax.is_deflated:
        frame_bytes = rows * columns * int(header.get("SamplesPerPixel") or 1) * int(header.get("BitsAllocated") or 8) // 8
    if frames > 1 and frames * frame_bytes > size:
        raise ReadError(f"bad_header: {frames} frames of {rows} x {columns} pixels do not fit into {size} bytes")
    if frames > limits.max_frames:
        raise ReadError(f"too_many_frames: {frames}, the limit is {limits.max_frames}")
    return frames


def _describe(header: pydicom.Dataset, locator: str, frames: int, syntax: UID, odd_preamble: bool) -> DicomHeader:
    """The description of the file. Without a patient ID the study is used as the patient, or else the file: two views of one examination,
    or two frames of one file, must not be separated into training and test."""
    extra = {
        "sex": _text(header, "PatientSex"),
        "age": _text(header, "PatientAge"),
        "view": _text(header, "ViewPosition"),
        "scanner": f"{_text(header, 'Manufacturer')} {_text(header, 'ManufacturerModelName')}".strip(),
        "modality": modality(header),
    }
    study, number = _text(header, "StudyInstanceUID") or None, _text(header, "InstanceNumber")
    return DicomHeader(
        locator,
        _text(header, "PatientID") or study or locator,
        study,
        _text(header, "SeriesInstanceUID") or (locator if frames > 1 else None),
        _text(header, "InstitutionName") or None,
        int(number) if re.fullmatch(r"[-+]?\d{1,12}", number) else None,
        {name: value for name, value in extra.items() if value},
        slice_order.planes(header, frames),
        marks(header, frames),
        syntax.name if syntax.name != str(syntax) else "unknown",
        not _text(header, "PatientID"),
        selection.may_have_text(header, modality(header)),
        odd_preamble,
        any(name in header and not _text(header, name) for name in ("RescaleIntercept", "RescaleSlope")),
        selection.is_secondary_capture(header),
        False,
        _text(header, "SOPInstanceUID"),
        _text(header, "AccessionNumber"),
    )


def _has_other_colours(path: Path, header: pydicom.Dataset) -> bool:
    """Whether the first frame of a JPEG file holds other colours than the header states."""
    if int(header.get("SamplesPerPixel") or 1) != 3:
        return False
    with path.open("rb") as file:
        content = file.read(_FIRST_BYTES)
    at = content.find(_COMPRESSED_PIXELS)
    start = content.find(b"\xff\xd8\xff", at)
    return at >= 0 and start >= 0 and codestream.contradicts(content[start:], _text(header, "PhotometricInterpretation"))


def _is_part_10(file: BinaryIO) -> bool:
    file.seek(128)
    return file.read(4) == b"DICM"


def _may_lack_preamble(file: BinaryIO) -> bool:
    """Whether the file may be a data set without a preamble: those begin with group 0002 or 0008, in either byte order."""
    file.seek(0)
    return file.read(2) in (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def _read_tags(file: BinaryIO) -> pydicom.Dataset:
    """The tags that are needed. Reading stops behind the last of them, and at tag 0: files filled up with zeros would take minutes."""
    last = max(_TAGS)
    return read_partial(file, lambda tag, _vr, _length: tag > last or tag == 0, force=True, specific_tags=list(_TAGS))


def _text(header: pydicom.Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()
