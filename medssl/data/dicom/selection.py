"""Which images are pictures that a scanner took, and which show text: by ImageType, SOP class and BurnedInAnnotation.

A radiograph FOR PRESENTATION is DERIVED, and so is a slice that was compressed; a localizer, a colour map of blood flow, a dose report
and a screen capture among the slices of a CT are another matter.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydicom.dataset import Dataset

from medssl.data.dicom.modalities import SLICES
from medssl.data.frame_policy import FramePolicy
from medssl.errors import ReadError

KEYWORDS = ("SOPClassUID", "Modality", "ImageType", "BurnedInAnnotation", "LossyImageCompression")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOCALIZERS = {"LOCALIZER", "SCOUT"}
_PAGES = ("SCREEN SAVE", "SCREENSAVE", "DOSE", "REPORT")
# values 3 and 4 of ImageType (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1, C.8.4.9.1.1) that name an acquired plane or projection, and no computed one
_ACQUIRED = {"AXIAL", "OTHER", "STATIC", "DYNAMIC", "GATED", "WHOLE BODY", "TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO"}
_ACQUIRED |= {"EMISSION", "TRANSMISSION"}
_OFTEN_WITH_TEXT = {"US", "IVUS", "XA", "RF", "CR", "DX", "MG", "ES", "XC", "OT", "SC"}


class Selection(NamedTuple):
    """Which frames of a file, and whether images that are not primary, or that show text, become records."""

    frames: FramePolicy = "all"
    derived: Literal["skip", "keep"] = "skip"
    burned_in: Literal["skip", "keep"] = "skip"


def check_selected(header: Dataset, modality: str, choice: Selection) -> None:
    """Raises ReadError not_primary or burned_in for what the choice leaves out."""
    if choice.derived == "skip" and (kind := _not_primary(header, modality)):
        raise ReadError(f"not_primary: {kind} (modality {modality or 'unknown'})")
    if choice.burned_in == "skip" and _burned_in(header) == "YES":
        raise ReadError("burned_in: the header says that text is burned into the picture")


def may_have_text(header: Dataset, modality: str) -> bool:
    """Whether the image is of a kind that often shows text, and its header does not say whether it does."""
    return (modality in _OFTEN_WITH_TEXT or _captured(header)) and _burned_in(header) not in ("YES", "NO")


def _not_primary(header: Dataset, modality: str) -> str:
    """What the image is instead, "" for a primary one."""
    values = [str(value).strip().upper().replace("_", " ") for value in _values(header.get("ImageType"))]
    kinds = {value for value in values[2:] if value}
    if kinds & _LOCALIZERS:
        return "a localizer"
    if any(kind.startswith(_PAGES) for kind in kinds):
        return "a dose report or a saved screen"
    if modality not in SLICES:
        return ""
    if _captured(header):
        return "a secondary capture"
    primary = values[1:2] != ["SECONDARY"]
    if values[:1] != ["DERIVED"] and primary:
        return ""
    compressed = primary and str(header.get("LossyImageCompression")).strip() == "01"  # which makes any image DERIVED (C.7.6.1.1.2)
    plain = kinds <= _ACQUIRED and (bool(kinds) or primary)
    return "" if compressed or plain else "derived from other images"


def _captured(header: Dataset) -> bool:
    """Secondary capture, single or multi-frame."""
    kind = str(header.get("SOPClassUID") or "")
    return kind == _SECONDARY_CAPTURE or kind.startswith(_SECONDARY_CAPTURE + ".")


def _burned_in(header: Dataset) -> str:
    return str(header.get("BurnedInAnnotation") or "").strip().upper()


def _values(value: Any) -> list[Any]:
    """The values of an element that may have one, several or none."""
    if value is None or isinstance(value, str):
        return [value or ""]
    return list(value)
