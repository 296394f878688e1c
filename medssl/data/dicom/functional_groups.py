"""Functional groups: the elements that a multi-frame file states for each frame (PS3.3 C.7.6.16), and the spacing of pixels."""

from pydicom.dataset import Dataset

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
TAGS = (*_SPACINGS, *GROUPS)


def merge_frame_groups(header: Dataset, index: int) -> Dataset:
    """A header with the rescale, window and spacing of frame `index` at its top level, where a single-frame file has them. What the frame
    itself states replaces what all frames share."""
    shared, per_frame = (header.get(name) for name in GROUPS)
    groups = [(shared or [None])[0], per_frame[index] if per_frame and index < len(per_frame) else None]
    macros = [group[name].value[0] for group in groups if group is not None for name in _MACROS if group.get(name)]
    if not macros:
        return header
    result = Dataset()
    result.set_original_encoding(*header.original_encoding)
    for part in (header, *macros):
        result.update(part)
    return result


def spacing_mm(header: Dataset) -> tuple[float, float] | None:
    """The distance in mm between neighbouring rows and between neighbouring columns: in the patient, else at the detector
    (PS3.3 10.7.1.3). None where the file states neither."""
    for name in _SPACINGS:
        try:
            rows, columns = (float(part) for part in header.get(name) or ())
        except (TypeError, ValueError):  # absent, empty, or not two numbers: the image can be used without a spacing
            continue
        if 0 < rows < float("inf") and 0 < columns < float("inf"):
            return rows, columns
    return None
