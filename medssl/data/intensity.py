"""Scaling by percentiles of the pixels, for files that state no range of values; and by the bits that the images really use."""

import numpy as np
from jaxtyping import Float, Shaped

from medssl.errors import ReadError

_PERCENTILES = (0.5, 99.5)


def by_percentile(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The values in [0, 1]: the 0.5th and the 99.5th percentile become 0 and 1, values beyond them are clipped.

    Raises ReadError non_finite where a value is NaN or infinite, constant where both percentiles are equal.
    """
    if not np.isfinite(values).all():
        raise ReadError("non_finite: NaN or infinite pixels")
    low, high = np.percentile(values, _PERCENTILES)
    if not high > low:
        raise ReadError("constant: the pixels between the 0.5th and the 99.5th percentile are all equal")
    return np.clip((values - low) / (high - low), 0, 1)


def percentile_ends(values: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
    """The 0.5th and the 99.5th percentile of finite `values`. Where these are equal, as in a volume that is empty except for a small part,
    the smallest and the largest value. Raises ReadError constant where all values are equal."""
    least, largest = float(values.min()), float(values.max())
    if least == largest:
        raise ReadError("constant: all voxels are equal")
    low, high = np.percentile(values, _PERCENTILES)
    return (float(low), float(high)) if high > low else (least, largest)


def used_bits(largest: float) -> int:
    """The bits that whole numbers from 0 to `largest` need; 1 at least."""
    return max(1, round(largest).bit_length())


def scale_used_bits(pixels: np.ndarray, stated: int, used: int, wanted: int | None) -> np.ndarray:
    """`pixels` in [0, 1] as `stated` bits, scaled so that `wanted` bits fill this range; unchanged where `wanted` is None or not less than
    `stated`. `used`: the bits that this image needs. Raises ReadError more_bits where these are more than `wanted`."""
    if wanted is None or not used or wanted >= stated:
        return pixels
    if used > wanted:
        raise ReadError(f"more_bits: the image needs {used} bits, data.used_bits is {wanted}")
    return np.minimum(pixels * np.float32((2**stated - 1) / (2**wanted - 1)), 1)
