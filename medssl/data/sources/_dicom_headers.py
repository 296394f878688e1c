"""What DICOM headers say of the images behind them: one record a frame. Only the tags needed are read, never pixels."""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pydicom
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medssl.config import Limits
from medssl.errors import ReadError
from medssl.types import Record

_KEYWORDS = (
    "SOPClassUID Modality InstitutionName Manufacturer ManufacturerModelName PatientID PatientSex PatientAge ViewPosition "
    "StudyInstanceUID SamplesPerPixel NumberOfFrames Rows Columns BitsAllocated"
)
_TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in _KEYWORDS.split()]
# values of Modality (PS3.3 C.7.3.1.1.1) that come with Rows and Columns or without, but are no pictures
_NO_IMAGES = {
    "SEG",
    "RTSTRUCT",
    "RTPLAN",
    "RTDOSE",
    "RTRECORD",
    "SR",
    "PR",
    "KO",
    "REG",
    "FID",
    "DOC",
    "ECG",
    "AU",
}
_CHUNK = 1 << 20


class Listed(NamedTuple):
    records: tuple[Record, ...]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str, str], ...]


def listed(root: Path, locators: Sequence[str], limits: Limits) -> Listed:
    """The frames of the files below `root`; those that are no images are skipped with a reason: not_dicom, not_an_image, no_pixels,
    bad_header, deflated_too_big, unreadable."""
    records, skipped, syntaxes, strangers = [], [], Counter[str](), 0
    with warnings.catch_warnings(action="ignore"):  # pydicom warns of each odd value, none of which is used here
        for locator in locators:
            try:
                header, syntax = _read(root / locator, limits)
                frames = _checked_frames(header, (root / locator).stat().st_size, syntax)
                records += [Record(locator, "dicom", index, **_known(header, locator)) for index in range(frames)]
                strangers += 0 if _text(header, "PatientID") else frames
                syntaxes[syntax.name] += 1
            except ReadError as error:
                skipped.append((locator, error.reason, error.detail))
            except OSError as error:
                skipped.append((locator, "unreadable", str(error.strerror)))
            except Exception as error:  # pydicom raises anything on a damaged header
                skipped.append((locator, "bad_header", " ".join(str(error).split()) or type(error).__name__))
    notes = ["transfer syntaxes: " + ", ".join(f"{name} {count}" for name, count in syntaxes.most_common())] if syntaxes else []
    if strangers:
        notes.append(f"{strangers} images carry no patient ID: their study, or else their file, stands for the patient")
    elif len(records) > 1 and len({record.patient for record in records}) == 1:
        notes.append(f"all {len(records)} images carry the same patient ID")
    return Listed(tuple(records), tuple(notes), tuple(skipped))


def is_dicom(path: Path) -> bool:
    """Whether the file begins as DICOM does: "DICM" after 128 bytes, or, as some old exports, with a data set that names its kind."""
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            return _is_part_10(file) or (_may_be_bare(file) and "SOPClassUID" in _header(file))
    except Exception:  # as above
        return False


def _read(path: Path, limits: Limits) -> tuple[pydicom.Dataset, UID]:
    with path.open("rb") as file:
        part_10 = _is_part_10(file)
        if not part_10 and not _may_be_bare(file):
            raise ReadError("not_dicom: neither 'DICM' after 128 bytes nor a bare data set")
        syntax = _checked_syntax(file, limits)
        header = _header(file)
    if not part_10 and "SOPClassUID" not in header:
        raise ReadError("not_dicom: a data set without SOPClassUID")
    return header, syntax


def _checked_frames(header: pydicom.Dataset, size: int, syntax: UID) -> int:
    """The number of frames, once the header describes an image that a file of `size` bytes can hold."""
    if "Rows" not in header or "Columns" not in header:
        raise ReadError(f"no_pixels: no Rows and Columns (modality {_text(header, 'Modality') or 'unknown'})")
    if _text(header, "Modality") in _NO_IMAGES:
        raise ReadError(f"not_an_image: modality {_text(header, 'Modality')}")
    rows, columns, frames = int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)
    if min(rows, columns, frames) < 1:
        raise ReadError(f"bad_header: {frames} frames of {rows} x {columns} pixels")
    least = 8  # bytes of an encapsulated frame: its item's tag and length
    if not syntax.is_encapsulated and not syntax.is_deflated:
        least = rows * columns * int(header.get("SamplesPerPixel") or 1) * int(header.get("BitsAllocated") or 8) // 8
    if frames > 1 and frames * least > size:
        raise ReadError(f"bad_header: {frames} frames of {rows} x {columns} pixels do not fit into {size} bytes")
    return frames


def _known(header: pydicom.Dataset, locator: str) -> dict[str, Any]:
    """What the header says of patient and study. Without a patient ID the study stands for the patient, or else the file: two views
    of one examination, or two frames of one file, must not part into training and test."""
    extra = {
        "sex": _text(header, "PatientSex"),
        "age": _text(header, "PatientAge"),
        "view": _text(header, "ViewPosition"),
        "scanner": f"{_text(header, 'Manufacturer')} {_text(header, 'ManufacturerModelName')}".strip(),
        "modality": _text(header, "Modality"),
    }
    study = _text(header, "StudyInstanceUID") or None
    return {
        "patient": _text(header, "PatientID") or study or locator,
        "study": study,
        "site": _text(header, "InstitutionName") or None,
        "extra": {name: value for name, value in extra.items() if value},
    }


def _is_part_10(file: BinaryIO) -> bool:
    file.seek(128)
    return file.read(4) == b"DICM"


def _may_be_bare(file: BinaryIO) -> bool:
    """A data set without preamble begins with group 0002 or 0008, in either byte order."""
    file.seek(0)
    return file.read(2) in (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def _checked_syntax(file: BinaryIO, limits: Limits) -> UID:
    """The transfer syntax, found as pydicom finds it. A deflated data set, which pydicom inflates whole, must stay within the limits."""
    file.seek(0)
    read_preamble(file, force=True)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    syntax = UID(str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian))
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated(file, limits.max_pixels * 2)
    return syntax


def _check_inflated(file: BinaryIO, most: int) -> None:
    inflater, size, waiting = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read(_CHUNK)
    while waiting:
        size += len(inflater.decompress(waiting, _CHUNK))
        if size > most:
            raise ReadError(f"deflated_too_big: inflates to more than {most} bytes")
        waiting = inflater.unconsumed_tail or (b"" if inflater.eof else file.read(_CHUNK))


def _header(file: BinaryIO) -> pydicom.Dataset:
    """The tags that are needed. Reading stops behind the last of them, and where zeros begin: a zero-filled rest would take minutes."""
    file.seek(0)
    last = max(_TAGS)
    return read_partial(file, lambda tag, _vr, _length: tag > last or tag == 0, force=True, specific_tags=_TAGS)


def _text(header: pydicom.Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()
