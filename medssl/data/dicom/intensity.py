"""From the stored values of a DICOM frame to grey values or colours in [0, 1] (PS3.3 C.11.1, C.11.2, C.7.6.3; PS3.4 N.2):

    stored value -> modality LUT or rescale -> VOI LUT or window -> MONOCHROME1 is inverted -> padding becomes 0

Values are scaled by the range of the stored bits or by the window, never by the range of the array's type. Palettes become RGB colours.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from medssl.config import windows_hu
from medssl.data.dicom.modalities import SLICES, WITHOUT_HU, known_code
from medssl.data.formats import channels_first
from medssl.data.intensity import percentile_ends
from medssl.errors import ReadError

_PALETTE_TAGS = tuple(
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_WINDOW_TAGS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_STORED_VALUE_TAGS = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit")
_RESCALE_TAGS = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType")
TAGS = ("Modality", *_STORED_VALUE_TAGS, *_RESCALE_TAGS, *_WINDOW_TAGS, "PresentationLUTShape", *_PALETTE_TAGS)
# Radiographs, ultrasound and screen captures use the whole range of their bits. Stored values of MR, PET and nuclear medicine have no
# fixed scale.
_FULL_RANGE_MODALITIES = {"CR", "DX", "MG", "XA", "RF", "IO", "PX", "US", "OT", "SC"}
_BODY_HU = (-1000.0, 1000.0)  # from air to dense bone: the window of a CT that states none


class Scaled(NamedTuple):
    """`pixels`: of a frame, in [0, 1]. `used_bits`: those that its values need, where it is scaled by the range of more than 8 stored bits,
    else 0."""

    pixels: Float32[np.ndarray, "c h w"]
    used_bits: int = 0


def scale(
    stored: Shaped[np.ndarray, "h w *colours"], header: Dataset, window: str, non_finite: str, wanted_bits: int | None = None
) -> Scaled:
    """The stored values [H, W] or [H, W, 3] of a frame as pixels in [0, 1]: [1, H, W], colours [3, H, W], or one channel for each window
    in HU that `window` names. `window`, `non_finite` and `wanted_bits` (used_bits) are explained at the reader's Config.

    Raises ReadError constant, empty_slice (the same, where the modality stores slices), non_finite, not_hounsfield, more_bits or
    not_an_image (an unknown photometric interpretation).
    """
    if stored.min() == stored.max():
        raise _empty(header, "all pixels are equal")
    photometric, windows = str(header.PhotometricInterpretation).strip(), windows_hu(window)
    if windows and not _is_hounsfield(header):
        raise ReadError(f"not_hounsfield: windows in HU are for CT with a rescale to HU (modality {_modality_code(header)})")
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stored, header)[..., :3]
        return Scaled(channels_first(colours) / (255 if colours.max() < 256 else 65535))  # 8-bit palettes are often stored with 16 bits
    if stored.ndim == 3:
        return Scaled(channels_first(stored) / (2**header.BitsStored - 1))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ReadError("not_an_image: an unknown photometric interpretation")
    stored, padding = _find_padding(stored, header, non_finite)
    values, low, high = _apply_rescale(stored, header)
    used = 0
    if windows:  # a value in HU means the same for MONOCHROME1 and MONOCHROME2: nothing is inverted
        grey = np.stack([_scale_between(values, c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2) for c, w in windows])
    else:
        by_header = _to_grey(values, header, window, low, high, padding)
        if by_header is None:
            used = _used_bits(stored, header, padding)
            grey = _scale_between(values, *_used_range(header, low, high, used, wanted_bits))[None]
        else:
            grey = by_header[None]
        if photometric == "MONOCHROME1" or str(header.get("PresentationLUTShape")).strip() == "INVERSE":
            np.subtract(1, grey, out=grey)
    if padding is not None:
        grey[:, padding] = 0
    return Scaled(np.ascontiguousarray(grey, np.float32), used)


def real_values(stored: Shaped[np.ndarray, "h w"], header: Dataset, non_finite: str) -> tuple[Float32[np.ndarray, "h w"], float, float]:
    """The values in the modality's units, NaN where they are padding, and the smallest and the largest value that the stored bits can give.
    Raises ReadError non_finite, constant (a rescale slope of 0)."""
    if stored.min() == stored.max():  # an empty slice at the end of a volume, of which all may be padding
        padding = None
    else:
        stored, padding = _find_padding(stored, header, non_finite)
    values, low, high = _apply_rescale(stored, header)
    values = values.astype(np.float32)
    if padding is not None:
        values[padding] = np.nan
    return values, low, high


def stated_window(header: Dataset) -> tuple[float, float] | None:
    """The two values that become 0 and 1 by the header's first linear window; None where the header states none."""
    centre, width = _first_number(header, "WindowCenter"), _first_number(header, "WindowWidth")
    if centre is None or width is None or width <= 1:
        return None
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _find_padding(
    stored: Shaped[np.ndarray, "h w"], header: Dataset, non_finite: str
) -> tuple[Shaped[np.ndarray, "h w"], Bool[np.ndarray, "h w"] | None]:
    """The stored values with 0 in place of NaN and infinity, and the mask of padding, None where there is no padding.

    Padding is what the file declares as such (PixelPaddingValue to PixelPaddingRangeLimit); of floating-point values, NaN and infinity.
    """
    if np.issubdtype(stored.dtype, np.floating):
        padding_mask = ~np.isfinite(stored)
        if padding_mask.any() and non_finite == "skip":
            raise ReadError(f"non_finite: {padding_mask.sum()} pixels are NaN or infinite")
        stored = np.where(padding_mask, 0, stored)
    else:
        first, limit = _first_number(header, "PixelPaddingValue"), _first_number(header, "PixelPaddingRangeLimit")
        if first is None:
            return stored, None
        low, high = _stored_range(header)
        # A negative padding value is often written as an unsigned number: both ends are brought into the range of the stored bits
        ends = [(int(value) - low) % (high - low + 1) + low for value in (first, first if limit is None else limit)]
        padding_mask = (stored >= min(ends)) & (stored <= max(ends))
    if padding_mask.all():
        raise _empty(header, "all pixels are padding")
    return stored, padding_mask if padding_mask.any() else None


def _empty(header: Dataset, sentence: str) -> ReadError:
    """The error of a frame that shows nothing: slices at the ends of volumes are often empty, which is no fault."""
    return ReadError(f"{'empty_slice' if _modality_code(header) in SLICES else 'constant'}: {sentence}")


def _used_bits(stored: Shaped[np.ndarray, "h w"], header: Dataset, padding: Bool[np.ndarray, "h w"] | None) -> int:
    """The bits that the stored values need which are no padding, with the sign; 0 for up to 8 stored bits and for a lookup table."""
    if int(header.BitsStored) <= 8 or _has_lookup_table(header, "ModalityLUTSequence"):
        return 0
    values = stored if padding is None else stored[~padding]
    least, largest = int(values.min()), int(values.max())
    return max(1, max(largest, -least - 1).bit_length()) + int(bool(header.PixelRepresentation))


def _used_range(header: Dataset, low: float, high: float, used: int, wanted: int | None) -> tuple[float, float]:
    """`low` and `high` where all stored bits count, else the ends of the range of the `wanted` bits. Raises ReadError more_bits where the
    image needs more."""
    if wanted is None or not used or wanted >= int(header.BitsStored):
        return low, high
    if used > wanted:
        raise ReadError(f"more_bits: the image needs {used} bits, data.used_bits is {wanted}")
    slope, intercept = _rescale(header)
    first, last = sorted(end * slope + intercept for end in _stored_range(header, wanted))
    return first, last


def _stored_range(header: Dataset, bits: int | None = None) -> tuple[int, int]:
    """The least and the largest value of the stored bits, or of that many `bits`."""
    bits = int(bits or header.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)


def _apply_rescale(stored: Shaped[np.ndarray, "h w"], header: Dataset) -> tuple[Float[np.ndarray, "h w"], float, float]:
    """The values in the modality's units (such as HU), and the smallest and the largest value that the stored bits can give. These two are
    infinite for floating-point values."""
    if np.issubdtype(stored.dtype, np.floating):
        return stored.astype(np.float64), -np.inf, np.inf
    if _has_lookup_table(header, "ModalityLUTSequence"):
        values, largest_entry = _apply_lookup_table(stored, header, "ModalityLUTSequence")
        return values.astype(np.float32), 0, largest_entry
    slope, intercept = _rescale(header)
    if slope == 0:
        raise ReadError("constant: the rescale slope is 0")
    low, high = sorted(end * slope + intercept for end in _stored_range(header))
    values = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    if (slope, intercept) != (1, 0):
        values *= slope
        values += intercept
    return values, low, high


def _rescale(header: Dataset) -> tuple[float, float]:
    """Slope and intercept, 1 and 0 where the header states none."""
    slope, intercept = _first_number(header, "RescaleSlope"), _first_number(header, "RescaleIntercept")
    return 1 if slope is None else slope, intercept or 0


def _to_grey(
    values: Float[np.ndarray, "h w"], header: Dataset, window: str, low: float, high: float, padding: Bool[np.ndarray, "h w"] | None
) -> Float[np.ndarray, "h w"] | None:
    """Grey values in [0, 1] from `values` in the modality's units, by the policy that `window` names: header, percentile or none. None
    where that is the whole range from `low` to `high`.

    The policy "header" uses the first of these that applies: the file's VOI LUT; its first window; for CT the window _BODY_HU; for other
    modalities without a fixed scale percentiles; the whole range from `low` to `high`.
    """
    if window == "header" and _has_lookup_table(header, "VOILUTSequence"):
        entries, largest_entry = _apply_lookup_table(values, header, "VOILUTSequence")
        return np.clip(entries / largest_entry, 0, 1)
    if window == "header" and (windowed := _apply_window(values, header, low, high)) is not None:
        return windowed
    above_8_bits = int(header.get("BitsStored") or 64) > 8
    if window == "header" and above_8_bits and _is_hounsfield(header):
        return _scale_between(values, *_BODY_HU)
    no_fixed_scale = window == "header" and above_8_bits and _modality_code(header) not in _FULL_RANGE_MODALITIES
    if window == "percentile" or no_fixed_scale or high == np.inf:
        return _scale_between(values, *percentile_ends(values if padding is None else values[~padding]))
    return None


def _scale_between(values: Float[np.ndarray, "h w"], low: float, high: float) -> Float[np.ndarray, "h w"]:
    """`values` scaled so that `low` becomes 0 and `high` becomes 1, and clipped. Where `high` is not above `low` (a window of width 1),
    larger values become 1 and all others 0."""
    if high <= low:
        return (values > low).astype(values.dtype)
    scaled = values - low
    scaled *= 1 / (high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def modality(header: Dataset) -> str:
    """The modality's code, "unknown" where the header has none; WITHOUT_HU for a CT whose values are not in HU."""
    code = _modality_code(header)
    return WITHOUT_HU if code == "CT" and not _is_hounsfield(header) else code


def _modality_code(header: Dataset) -> str:
    """The modality's code in capital letters. Any other text in that element may be private: it is called "unknown"."""
    return known_code(str(header.get("Modality") or "")) or "unknown"


def _is_hounsfield(header: Dataset) -> bool:
    """Whether the image is a CT whose rescaled values are HU. They are, too, where RescaleType is absent (PS3.3 C.8.2.1)."""
    rescale = all(_first_number(header, name) is not None for name in ("RescaleSlope", "RescaleIntercept"))
    unit = str(header.get("RescaleType") or "").strip().upper()
    return _modality_code(header) == "CT" and rescale and not _has_lookup_table(header, "ModalityLUTSequence") and unit in ("", "HU", "US")


def _apply_window(values: Float[np.ndarray, "h w"], header: Dataset, low: float, high: float) -> Float[np.ndarray, "h w"] | None:
    """Grey values in [0, 1] by the file's first window (PS3.3 C.11.2.1.2 and C.11.2.1.3). None where the file has no window, or one that
    holds none of the possible values."""
    centre, width = _first_number(header, "WindowCenter"), _first_number(header, "WindowWidth")
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if centre is None or width is None:
        return None
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width <= 0 or centre + width / 2 <= low or centre - width / 2 >= high:
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    return _scale_between(values, centre - width / 2, centre + width / 2)


def _has_lookup_table(header: Dataset, name: str) -> bool:
    sequence = header.get(name)
    return bool(sequence) and all(sequence[0].get(part) is not None for part in ("LUTDescriptor", "LUTData"))


def _apply_lookup_table(values: Shaped[np.ndarray, "h w"], header: Dataset, name: str) -> tuple[Shaped[np.ndarray, "h w"], int]:
    """For each value its entry in the first lookup table of the sequence `name`, and the largest entry that the table's bits allow
    (PS3.3 C.11.1.1, C.11.2.1.1).

    pydicom's own functions compute the index in the type of the table, which overflows for 12-bit pixels and 8-bit entries.
    """
    item = header[name].value[0]
    entries, first, bits = item.LUTDescriptor
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        data = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * (entries or 2**16) else "u1")
    table = np.asarray(data)
    if first > 32767 and values.min() < 0:  # a negative first value that was written as an unsigned number
        first -= 65536
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)], 2**bits - 1


def _first_number(header: Dataset, keyword: str) -> float | None:
    """The element's first value; None where it is absent, empty or not finite."""
    value = header.get(keyword)
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | float) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    return float(value) if value is not None and np.isfinite(float(value)) else None
