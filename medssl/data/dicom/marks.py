"""What tells images of one place in the patient apart: the echo, the kind of picture (magnitude or phase), the time point, the weighting by
diffusion, and the acquisition. A multi-frame file states it in the functional groups of its frames (PS3.3 C.7.6.16)."""

from pydicom.dataset import Dataset

from medssl.data.dicom.functional_groups import GROUPS

# the element of a file, and the macro of the functional groups with the element in it
_ELEMENTS = (
    ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("EchoNumbers", "", ""),
    ("ImageType", "MRImageFrameTypeSequence", "FrameType"),
    ("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
    ("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
)
KEYWORDS = tuple(element for element, _, _ in _ELEMENTS)
Marks = tuple[str, ...]


def marks(header: Dataset, frames: int) -> tuple[Marks, ...]:
    """For each frame the values of these elements, "" for one that is absent or malformed."""
    of_file = tuple(_text(header, element) for element in KEYWORDS)
    shared, per_frame = (header.get(name) or () for name in GROUPS)
    if not per_frame:
        return (of_file,) * frames
    return tuple(_of_frame(of_file, (*per_frame[index : index + 1], *shared[:1])) for index in range(frames))


def _of_frame(of_file: Marks, groups: tuple[Dataset, ...]) -> Marks:
    """`groups`: those of the frame before those of all frames."""
    found = []
    for known, (_, macro, element) in zip(of_file, _ELEMENTS, strict=True):
        items = [item for group in groups for item in (group.get(macro) or ())[:1]] if macro else []
        found.append(next((text for item in items if (text := _text(item, element))), known))
    return tuple(found)


def _text(group: Dataset, element: str) -> str:
    try:
        value = group.get(element)
    except Exception:  # a malformed number makes pydicom raise any exception; the image can be used without it
        return ""
    return "" if value is None else str(value).strip()
