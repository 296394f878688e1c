"""Refusing volumes by the numbers in their headers, before any memory is taken for their voxels."""

import math

from medssl.config import Limits
from medssl.errors import ReadError

_COPIES = 2  # of the volume in float32: the values that are scaled, and with half of that or less each the stored values and a mask


def check_shape(shape: tuple[int, ...], limits: Limits, min_slices: int, channels: int = 1) -> None:
    """Raises ReadError for a volume of that shape (three axes): few_slices, too_many_frames, too_many_pixels (of a slice), too_big."""
    if min(shape) < min_slices:
        raise ReadError(f"few_slices: {' x '.join(map(str, shape))} voxels, data.min_slices is {min_slices}")
    if shape[0] > limits.max_frames:
        raise ReadError(f"too_many_frames: {shape[0]} slices, the limit is {limits.max_frames}")
    if shape[1] * shape[2] > limits.max_pixels:
        raise ReadError(f"too_many_pixels: {shape[1]} x {shape[2]}, the limit is {limits.max_pixels}")
    needed = _COPIES * 4 * channels * math.prod(shape)
    if needed > limits.memory_bytes:
        raise ReadError(f"too_big: a volume of {' x '.join(map(str, shape))} voxels needs {needed} bytes of memory")
