"""From the stored values of a DICOM frame to [0, 1] (PS3.3 C.11.1, C.11.2, C.7.6.3; PS3.4 N.2):

    stored -> modality LUT or rescale -> VOI LUT or window -> MONOCHROME1 inverted -> padding to 0

scaled by the range of the stored bits or by the window, never by the range of the array's type. Palettes and colour become RGB.
"""

import re

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from medssl.config import windows_hu
from medssl.data.formats import channels_first
from medssl.data.intensity import percentile_ends
from medssl.errors import ReadError

_PALETTE = tuple(
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_STORED = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit")
_RESCALE = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType")
TAGS = ("Modality", *_STORED, *_RESCALE, *_WINDOW, "PresentationLUTShape", *_PALETTE)
# Radiographs, ultrasound and screen captures fill the range of their bits; what MR, PET and nuclear medicine store is of no fixed scale
_FILL_THEIR_RANGE = {"CR", "DX", "MG", "XA", "RF", "IO", "PX", "US", "OT", "SC"}
_BODY_HU = (-1000.0, 1000.0)  # air to dense bone, for CT without a window


def pixels(stored: Shaped[np.ndarray, "h w *colours"], header: Dataset, window: str, non_finite: str) -> Float32[np.ndarray, "c h w"]:
    """Stored values [H, W] or [H, W, 3] of a frame as [1, H, W], [3, H, W], or a channel for each window in HU, in [0, 1].

    Raises ReadError constant, non_finite, not_hounsfield or not_an_image (an unknown photometric interpretation).
    """
    if stored.min() == stored.max():
        raise ReadError("constant: all pixels are equal")
    photometric, windows = str(header.PhotometricInterpretation).strip(), windows_hu(window)
    if windows and not _hounsfield(header):
        raise ReadError(f"not_hounsfield: windows in HU are for CT with a rescale to HU (modality {_modality_of(header)})")
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stored, header)[..., :3]
        return channels_first(colours) / (255 if colours.max() < 256 else 65535)  # tables of 8 bits are often stored in 16
    if stored.ndim == 3:
        return channels_first(stored) / (2**header.BitsStored - 1)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ReadError("not_an_image: an unknown photometric interpretation")
    stored, padding = _cleared(stored, header, non_finite)
    values, low, high = _rescaled(stored, header)
    if windows:  # a number of HU means the same whichever way the grey runs
        grey = np.stack([_between(values, c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2) for c, w in windows])
    else:
        grey = _grey(values, header, window, low, high, padding)[None]
        if photometric == "MONOCHROME1" or str(header.get("PresentationLUTShape")).strip() == "INVERSE":
            np.subtract(1, grey, out=grey)
    if padding is not None:
        grey[:, padding] = 0
    return np.ascontiguousarray(grey, np.float32)


def _cleared(
    stored: Shaped[np.ndarray, "h w"], header: Dataset, non_finite: str
) -> tuple[Shaped[np.ndarray, "h w"], Bool[np.ndarray, "h w"] | None]:
    """The stored values, finite, and which of them are no picture: padding that the file declares (PixelPaddingValue to
    PixelPaddingRangeLimit), or NaN and infinite numbers; None where all are."""
    if np.issubdtype(stored.dtype, np.floating):
        outside = ~np.isfinite(stored)
        if outside.any() and non_finite == "skip":
            raise ReadError(f"non_finite: {outside.sum()} pixels are NaN or infinite")
        stored = np.where(outside, 0, stored)
    else:
        first, limit = _number(header, "PixelPaddingValue"), _number(header, "PixelPaddingRangeLimit")
        if first is None:
            return stored, None
        low, high = _stored_range(header)
        # Signed padding is often written as unsigned: both are brought into the range of the stored bits
        ends = [(int(value) - low) % (high - low + 1) + low for value in (first, first if limit is None else limit)]
        outside = (stored >= min(ends)) & (stored <= max(ends))
    if outside.all():
        raise ReadError("constant: all pixels are padding")
    return stored, outside if outside.any() else None


def _stored_range(header: Dataset) -> tuple[int, int]:
    bits = header.BitsStored
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)


def _rescaled(stored: Shaped[np.ndarray, "h w"], header: Dataset) -> tuple[Float[np.ndarray, "h w"], float, float]:
    """Values in the modality's units, and the least and the largest that the stored bits can give (none for floating-point numbers)."""
    if np.issubdtype(stored.dtype, np.floating):
        return stored.astype(np.float64), -np.inf, np.inf
    if _tables(header, "ModalityLUTSequence"):
        values, full = _looked_up(stored, header, "ModalityLUTSequence")
        return values.astype(np.float32), 0, full
    slope, intercept = _number(header, "RescaleSlope"), _number(header, "RescaleIntercept")
    slope, intercept = 1 if slope is None else slope, intercept or 0
    if slope == 0:
        raise ReadError("constant: the rescale slope is 0")
    low, high = sorted(end * slope + intercept for end in _stored_range(header))
    values = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    if (slope, intercept) != (1, 0):
        values *= slope
        values += intercept
    return values, low, high


def _grey(
    values: Float[np.ndarray, "h w"], header: Dataset, window: str, low: float, high: float, padding: Bool[np.ndarray, "h w"] | None
) -> Float[np.ndarray, "h w"]:
    """Values in the modality's units by one of the policies, in [0, 1]."""
    if window == "header" and _tables(header, "VOILUTSequence"):
        entries, full = _looked_up(values, header, "VOILUTSequence")
        return np.clip(entries / full, 0, 1)
    if window == "header" and (windowed := _windowed(values, header, low, high)) is not None:
        return windowed
    deep = int(header.get("BitsStored") or 64) > 8
    if window == "header" and deep and _hounsfield(header):
        return _between(values, *_BODY_HU)
    guessed = window == "header" and deep and _modality_of(header) not in _FILL_THEIR_RANGE
    if window == "percentile" or guessed or high == np.inf:
        low, high = percentile_ends(values if padding is None else values[~padding])
    return _between(values, low, high)


def _between(values: Float[np.ndarray, "h w"], low: float, high: float) -> Float[np.ndarray, "h w"]:
    """`low` and below become 0, `high` and above 1; a step where they are one number (a window of width 1)."""
    if high <= low:
        return (values > low).astype(values.dtype)
    scaled = values - low
    scaled *= 1 / (high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def _modality_of(header: Dataset) -> str:
    """The code, as the standard writes them; anything else that stands there is not repeated."""
    modality = str(header.get("Modality") or "").strip()
    return modality if re.fullmatch(r"[A-Z]{2,16}", modality) else "unknown"


def _hounsfield(header: Dataset) -> bool:
    """CT whose rescale leads to HU, which is what it means where RescaleType says nothing (PS3.3 C.8.2.1)."""
    rescale = all(_number(header, name) is not None for name in ("RescaleSlope", "RescaleIntercept"))
    unit = str(header.get("RescaleType") or "").strip().upper()
    return _modality_of(header) == "CT" and rescale and not _tables(header, "ModalityLUTSequence") and unit in ("", "HU", "US")


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
    return _between(values, centre - width / 2, centre + width / 2)


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
