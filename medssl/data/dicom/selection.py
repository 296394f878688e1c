"""Which images a scanner took itself, and which show text: by ImageType, SOP class and BurnedInAnnotation.

The value DERIVED alone does not decide: a radiograph FOR PRESENTATION is DERIVED, and so is a compressed slice, and both are used. What is
left out are localizers, maps computed from other images (of blood flow, say), dose reports and screen captures.
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
_SCREENS_AND_REPORTS = ("SCREEN SAVE", "SCREENSAVE", "DOSE", "REPORT")
# values 3 and 4 of ImageType (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1, C.8.4.9.1.1) of images that were acquired, not computed from others
_ACQUIRED = {"AXIAL", "OTHER", "STATIC", "DYNAMIC", "GATED", "WHOLE BODY", "TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO"}
_ACQUIRED |= {"EMISSION", "TRANSMISSION"}
_OFTEN_WITH_TEXT = {"US", "IVUS", "XA", "RF", "CR", "DX", "MG", "ES", "XC", "OT", "SC"}


class Selection(NamedTuple):
    """The user's choice: which frames of a file become records, and whether images that are derived, or that show text, do."""

    frames: FramePolicy = "all"
    derived: Literal["skip", "keep"] = "skip"
    burned_in: Literal["skip", "keep"] = "skip"


def check_selected(header: Dataset, modality: str, choice: Selection) -> None:
    """Raises ReadError not_primary or burned_in for an image that the choice leaves out."""
    if choice.derived == "skip" and (kind := _kind_if_not_primary(header, modality)):
        raise ReadError(f"not_primary: {kind} (modality {modality or 'unknown'})")
    if choice.burned_in == "skip" and _burned_in_annotation(header) == "YES":
        raise ReadError("burned_in: the header says that text is burned into the picture")


def may_have_text(header: Dataset, modality: str) -> bool:
    """Whether images of this kind often show text and the header does not state whether this one does."""
    return (modality in _OFTEN_WITH_TEXT or is_secondary_capture(header)) and _burned_in_annotation(header) not in ("YES", "NO")


def _kind_if_not_primary(header: Dataset, modality: str) -> str:
    """What kind of image it is where it is not a primary one, else ""."""
    values = [str(value).strip().upper().replace("_", " ") for value in _as_list(header.get("ImageType"))]
    kinds = {value for value in values[2:] if value}
    if kinds & _LOCALIZERS:
        return "a localizer"
    if any(kind.startswith(_SCREENS_AND_REPORTS) for kind in kinds):
        return "a dose report or a saved screen"
    if modality not in SLICES:
        return ""
    if is_secondary_capture(header):
        return "a secondary capture"
    primary = values[1:2] != ["SECONDARY"]
    if values[:1] != ["DERIVED"] and primary:
        return ""
    compressed = primary and str(header.get("LossyImageCompression")).strip() == "01"  # lossy compression alone makes DERIVED (C.7.6.1.1.2)
    acquired = kinds <= _ACQUIRED and (bool(kinds) or primary)
    return "" if compressed or acquired else "derived from other images"


def is_secondary_capture(header: Dataset) -> bool:
    """Whether the SOP class is secondary capture, of one or of many frames."""
    kind = str(header.get("SOPClassUID") or "")
    return kind == _SECONDARY_CAPTURE or kind.startswith(_SECONDARY_CAPTURE + ".")


def _burned_in_annotation(header: Dataset) -> str:
    return str(header.get("BurnedInAnnotation") or "").strip().upper()


def _as_list(value: Any) -> list[Any]:
    """The values of an element as a list: an element may have none, one or several."""
    if value is None or isinstance(value, str):
        return [value or ""]
    return list(value)
