"""From the stored values of a DICOM frame to [0, 1] (PS3.3 C.11.1, C.11.2, C.7.6.3; PS3.4 N.2):

    stored -> modality LUT or rescale -> VOI LUT or window -> MONOCHROME1 inverted -> padding to 0

scaled by the range of the stored bits or by the window, never by the range of the array's type. Palettes and colour become RGB.
"""

import numpy as np
from jaxtyping import Bool, Float, Shaped
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from medssl.data.readers._channels import channels_first
from medssl.data.readers._intensity import by_percentile
from medssl.errors import ReadError
from medssl.types import Decoded

_PALETTE = tuple(
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_STORED = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS = (*_STORED, "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", *_WINDOW, "PresentationLUTShape", *_PALETTE, *_GROUPS)


def decoded(stored: Shaped[np.ndarray, "h w *colours"], header: Dataset, index: int, window: str) -> Decoded:
    """Stored values [H, W] or [H, W, 3] of frame `index` as float32 [1, H, W] or [3, H, W] in [0, 1].

    Raises ReadError constant, non_finite or not_an_image (an unknown photometric interpretation).
    """
    if stored.min() == stored.max():
        raise ReadError("constant: all pixels are equal")
    photometric = str(header.PhotometricInterpretation).strip()
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stored, header)[..., :3]
        full = 255 if colours.max() < 256 else 65535  # tables of 8 bits are often stored in 16
        return Decoded(channels_first(colours) / full, header.BitsStored)
    if stored.ndim == 3:
        return Decoded(channels_first(stored) / (2**header.BitsStored - 1), header.BitsStored)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ReadError(f"not_an_image: photometric interpretation {photometric[:16]!r}")
    _merge_functional_groups(header, index)
    padding = _padding(stored, header)
    grey = _grey(stored, header, window, ~padding)
    if photometric == "MONOCHROME1" or str(header.get("PresentationLUTShape")).strip() == "INVERSE":
        grey = 1 - grey
    grey[padding] = 0
    return Decoded(channels_first(grey), int(header.get("BitsStored") or header.BitsAllocated))


def _merge_functional_groups(header: Dataset, index: int) -> None:
    """Rescale and window of an enhanced multi-frame file to where classic files have them; the frame's own go before the shared."""
    shared, own = (header.get(name) for name in _GROUPS)
    for group in ((shared or [None])[0], own[index] if own and index < len(own) else None):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            if group is not None and group.get(name):
                header.update(group[name].value[0])


def _stored_range(header: Dataset) -> tuple[int, int]:
    bits = header.BitsStored
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)


def _padding(stored: Shaped[np.ndarray, "h w"], header: Dataset) -> Bool[np.ndarray, "h w"]:
    """Boolean [H, W]: pixels that the file declares to be no picture (PixelPaddingValue to PixelPaddingRangeLimit)."""
    first = _number(header, "PixelPaddingValue")
    if first is None or np.issubdtype(stored.dtype, np.floating):
        return np.zeros(stored.shape, bool)
    low, high = _stored_range(header)
    limit = _number(header, "PixelPaddingRangeLimit")
    # Signed padding is often written as unsigned: both are brought into the range of the stored bits
    ends = [(int(value) - low) % (high - low + 1) + low for value in (first, first if limit is None else limit)]
    padding = (stored >= min(ends)) & (stored <= max(ends))
    if padding.all():
        raise ReadError("constant: all pixels are padding")
    return padding


def _grey(stored: Shaped[np.ndarray, "h w"], header: Dataset, window: str, valid: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Stored values [H, W] after modality LUT and VOI LUT, in [0, 1]."""
    if np.issubdtype(stored.dtype, np.floating):
        return by_percentile(stored.astype(np.float64), valid)
    values, low, high = _modality(stored, header)
    if window == "percentile":
        return by_percentile(values, valid)
    if window == "header":
        if _tables(header, "VOILUTSequence"):
            entries, full = _looked_up(values, header, "VOILUTSequence")
            return np.clip(entries / full, 0, 1)
        if (windowed := _windowed(values, header, low, high)) is not None:
            return windowed
    return np.clip((values - low) / (high - low), 0, 1)


def _modality(stored: Shaped[np.ndarray, "h w"], header: Dataset) -> tuple[Float[np.ndarray, "h w"], float, float]:
    """Values in the modality's units, and the least and the largest that the stored bits can give."""
    if _tables(header, "ModalityLUTSequence"):
        values, full = _looked_up(stored, header, "ModalityLUTSequence")
        return values.astype(np.float32), 0, full
    slope, intercept = _number(header, "RescaleSlope"), _number(header, "RescaleIntercept")
    slope, intercept = 1 if slope is None else slope, intercept or 0
    if slope == 0:
        raise ReadError("constant: the rescale slope is 0")
    low, high = sorted(end * slope + intercept for end in _stored_range(header))
    exact = np.float32 if stored.dtype.itemsize <= 2 else np.float64
    return stored.astype(exact) * slope + intercept, low, high


def _windowed(values: Float[np.ndarray, "h w"], header: Dataset, low: float, high: float) -> Float[np.ndarray, "h w"] | None:
    """The first window applied (PS3.3 C.11.2.1.2 and C.11.2.1.3), None without one or with one that shows nothing."""
    centre, width = _number(header, "WindowCenter"), _number(header, "WindowWidth")
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if centre is None or width is None:
        return None
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width <= 0 or centre + width / 2 <= low or centre - width / 2 >= high:
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _tables(header: Dataset, name: str) -> bool:
    sequence = header.get(name)
    return bool(sequence) and all(sequence[0].get(part) is not None for part in ("LUTDescriptor", "LUTData"))


def _looked_up(values: Shaped[np.ndarray, "h w"], header: Dataset, name: str) -> tuple[Shaped[np.ndarray, "h w"], int]:
    """The values' entries in the sequence's first table, and the largest entry its bits allow (PS3.3 C.11.1.1, C.11.2.1.1).

    pydicom's own functions keep the index in the type of the table, so that it wraps around for 12-bit pixels and 8-bit entries.
    """
    item = header[name].value[0]
    entries, first, bits = item.LUTDescriptor
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        data = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * (entries or 2**16) else "u1")
    table = np.asarray(data)
    if first > 32767 and values.min() < 0:  # a negative first value that was written as unsigned
        first -= 65536
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)], 2**bits - 1


def _number(header: Dataset, keyword: str) -> float | None:
    """The element's first value; None where it is absent, empty or not finite."""
    value = header.get(keyword)
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | float) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    return float(value) if value is not None and np.isfinite(float(value)) else None
