"""One grey scale for a whole volume, and the part of it that is no background.

CT in HU: the window, else that of the header, else from air to dense bone; the foreground is what is denser than -500 HU
all else: percentiles 0.5 and 99.5 of the foreground, which is what is not zero: skull-stripped MR has zeros around the brain
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from medssl.config import windows_hu
from medssl.data.intensity import percentile_ends
from medssl.errors import ReadError

Box = tuple[tuple[int, int], ...]
Range = tuple[float, float]
BODY_HU = (-1000.0, 1000.0)  # from air to dense bone
_LEAST_HU = -500.0  # of the body and the table; lungs are within the body
_SAMPLE = 2**24  # voxels of which percentiles are computed: more would need another copy of the volume


class ScaledVolume(NamedTuple):
    """`pixels`: in [0, 1]. `foreground`: for each axis the first voxel and the end; None where that is the whole volume."""

    pixels: Float32[np.ndarray, "c d h w"]
    foreground: Box | None


def scale_volume(
    values: Float32[np.ndarray, "d h w"], window: str, hounsfield: bool, stated: Range | None = None, stored: Range | None = None
) -> ScaledVolume:
    """The volume in [0, 1], with one channel, or one for each window in HU that `window` names. `values`, in the modality's units, are
    overwritten: a volume may be as large as half of the memory. They may lie in memory in any order.

    `hounsfield`: whether the values are HU; `stated`: the two values that become 0 and 1 by the header, for the policy "header" and HU;
    `stored`: the least and the largest value that the file can store, for the policy "none". Raises ReadError constant, not_hounsfield.
    """
    least, largest = float(values.min()), float(values.max())
    if least == largest:
        raise ReadError("constant: all voxels are equal")
    windows = windows_hu(window)
    if windows and not hounsfield:
        raise ReadError("not_hounsfield: windows in HU are for CT with values in HU")
    box = _box(_is_foreground(values, hounsfield))
    if windows:
        ranges = [(centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2) for centre, width in windows]
    elif window == "header" and hounsfield:
        ranges = [stated or BODY_HU]
    else:
        ranges = [stored if window == "none" and stored else _percentiles(values, hounsfield)]
    if len(ranges) == 1:
        return ScaledVolume(_scale_in_place(values, *ranges[0])[None], box)
    return ScaledVolume(np.stack([_scale_in_place(values.copy(), *ends) for ends in ranges]), box)


def _is_foreground(values: Shaped[np.ndarray, "*space"], hounsfield: bool) -> Bool[np.ndarray, "*space"]:
    return values > _LEAST_HU if hounsfield else values != 0


def _box(foreground: Bool[np.ndarray, "d h w"]) -> Box | None:
    """The smallest box that holds all of the foreground; None where that is the whole volume, or where there is no foreground."""
    found = [np.flatnonzero(foreground.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not all(map(len, found)):
        return None
    box = tuple((int(at[0]), int(at[-1]) + 1) for at in found)
    return None if box == tuple((0, length) for length in foreground.shape) else box


def _percentiles(values: Float32[np.ndarray, "d h w"], hounsfield: bool) -> Range:
    """The percentiles of the foreground, of evenly spaced voxels in large volumes. Where the foreground has one value only, as in a mask,
    the least and the largest value of the volume."""
    step = math.ceil((values.size / _SAMPLE) ** (1 / 3))
    sample = values[::step, ::step, ::step]
    sample = sample[_is_foreground(sample, hounsfield)]
    if len(sample) < 2 or sample.min() == sample.max():
        return float(values.min()), float(values.max())
    return percentile_ends(sample)


def _scale_in_place(values: Float32[np.ndarray, "d h w"], low: float, high: float) -> Float32[np.ndarray, "d h w"]:
    """`values` so that `low` becomes 0 and `high` becomes 1, clipped. A window of width 1 makes larger values 1 and all others 0."""
    if high <= low:
        return (values > low).astype(np.float32)
    values -= np.float32(low)
    values *= np.float32(1 / (high - low))
    return np.clip(values, 0, 1, out=values)
