"""What the pixels of a file and of its partner say: a mask of it, the same picture with something drawn on it, or a small copy."""

from collections.abc import Collection, Sequence

import numpy as np

from medssl.data.not_samples.looks import Look
from medssl.data.not_samples.partners import OVERLAY, PROBABILITY, THUMBNAIL

_FEW_VALUES = 32
_FLAT = 0.7  # the share of neighbours outside the background that are equal: 0.1 in photographs, 0.9 in label maps
_DARK, _BRIGHT = 32, 223  # a mask that was saved as JPEG has grey values near both ends only
_EXTREME = 0.95  # the share of such values
_EQUAL = 8  # grey values by which compression changes a pixel of 8 bits
_SAME_PICTURE = 0.8  # correlation of two pictures at 16 x 16 pixels
_MOST_NAMED, _MOST_UNNAMED = 0.7, 0.9  # the share of the sample that must agree
_LEAST_PAIRS = 3  # without a telling name
_COARSE = 16
_ICON_EDGE, _ICON_SHARE = 128, 1 / 3


def judge(pairs: Sequence[tuple[Look, Look]], words: Collection[str] = ()) -> str:
    """What the first of each pair is to the second: "mask", "overlay", "thumbnail"; "" where most of them are images of their own.
    `words`: the telling words of their names; without them the content must say clearly that they are masks."""
    if not pairs or (not words and len(pairs) < _LEAST_PAIRS):
        return ""
    needed, probable = (_MOST_NAMED if words else _MOST_UNNAMED) * len(pairs), bool(PROBABILITY & set(words))
    masks = sum(probable or ((bool(words) or own.grid == other.grid) and is_label_map(own, jpeg=bool(words))) for own, other in pairs)
    images = sum(not is_label_map(other, jpeg=bool(words)) for _, other in pairs)
    shown = sum(own.values.min() < own.values.max() for own, _ in pairs)
    if masks >= needed and images >= needed and (words or 2 * shown >= len(pairs)):  # empty pictures without a name are no masks
        return "mask"
    drawn = sum(own.grid == other.grid and (_equal_share(own, other) > 0.5 or _drawn(own, other, words)) for own, other in pairs)
    if words and drawn >= needed:
        return "overlay"
    small = sum(max(own.grid) < max(other.grid) and _correlation(own, other) > _SAME_PICTURE for own, other in pairs)
    return "thumbnail" if THUMBNAIL & set(words) and small >= needed else ""


def are_icons(icons: Sequence[Look], others: Sequence[Look]) -> bool:
    """Whether pictures are icons: small, and much smaller than the others."""
    if not icons or not others:
        return False
    beside = float(np.median([max(each.grid) for each in others]))
    return max(max(each.grid) for each in icons) <= min(_ICON_EDGE, _ICON_SHARE * beside)


def is_label_map(look: Look, jpeg: bool = False) -> bool:
    """Whether the image has few values, or areas of equal values beside its background. `jpeg`: a mask of black and white counts, too,
    whose edges were blurred by compression."""
    values = look.values
    one = values.astype(np.int64) @ (1 << 16, 1 << 8, 1) if look.colours else values
    distinct, counts = np.unique(one, return_counts=True)
    if len(distinct) <= max(2, min(_FEW_VALUES, one.size // 16)):
        return True
    background = distinct[counts.argmax()]
    left, right = one[:, :-1], one[:, 1:]
    shown = (left != background) | (right != background)
    if shown.any() and float((left == right)[shown].mean()) >= _FLAT:
        return True
    if not jpeg or values.dtype != np.uint8:
        return False
    return bool(((values < _DARK) | (values > _BRIGHT)).mean() >= _EXTREME and (values > _BRIGHT).any())


def _equal_share(own: Look, other: Look) -> float:
    """The share of pixels, outside the background, that are those of the other picture."""
    first, second = _grey(own), _grey(other)
    values, counts = np.unique(second, return_counts=True)
    shown = second != values[counts.argmax()]
    return float((np.abs(first - second) <= _EQUAL)[shown].mean()) if shown.any() else 0.0


def _drawn(own: Look, other: Look, words: Collection[str]) -> bool:
    return bool(OVERLAY & set(words)) and _correlation(own, other) > _SAME_PICTURE


def _correlation(own: Look, other: Look) -> float:
    """Of both pictures at 16 x 16 pixels, in grey."""
    first, second = (_coarse(look) for look in (own, other))
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / norm if norm > 0 else 0.0


def _grey(look: Look) -> np.ndarray:
    values = look.values.astype(np.float64)
    return values.mean(axis=-1) if look.colours else values


def _coarse(look: Look) -> np.ndarray:
    values = _grey(look)
    values = values.mean(axis=-1) if values.ndim > 2 else values
    for axis in (0, 1):
        ends = np.linspace(0, values.shape[axis], _COARSE + 1).astype(int)
        starts = np.minimum(ends[:-1], values.shape[axis] - 1)
        parts = [values.take(range(a, max(b, a + 1)), axis).mean(axis=axis) for a, b in zip(starts, ends[1:], strict=True)]
        values = np.stack(parts, axis)
    return values
