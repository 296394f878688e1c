"""What a multi-frame file keeps for each of its frames (PS3.3 C.7.6.16), brought to where classic files keep it, and the spacing."""

from pydicom.dataset import Dataset

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
TAGS = (*_SPACINGS, *_GROUPS)


def merge_frame_groups(header: Dataset, index: int) -> Dataset:
    """`header` with rescale, window and spacing of frame `index`; the frame's own go before those that all frames share."""
    shared, own = (header.get(name) for name in _GROUPS)
    groups = [(shared or [None])[0], own[index] if own and index < len(own) else None]
    macros = [group[name].value[0] for group in groups if group is not None for name in _MACROS if group.get(name)]
    if not macros:
        return header
    result = Dataset()
    result.set_original_encoding(*header.original_encoding)
    for part in (header, *macros):
        result.update(part)
    return result


def spacing_mm(header: Dataset) -> tuple[float, float] | None:
    """Between neighbouring rows and neighbouring columns: in the patient, else at the detector (PS3.3 10.7.1.3); None where the file
    does not say."""
    for name in _SPACINGS:
        try:
            rows, columns = (float(part) for part in header.get(name) or ())
        except (TypeError, ValueError):  # absent, empty, or no two numbers: the picture is there all the same
            continue
        if 0 < rows < float("inf") and 0 < columns < float("inf"):
            return rows, columns
    return None
