"""The deterministic preparation of whole volumes: any decoded volume becomes [channels, slices, rows, columns] of `data.size`, with 8 or 16
bits.

    the foreground (air of CT and zeros at the border are cut off) -> `data.transforms` -> channels -> cubic voxels -> zeros at the border

Voxels become cubes, as large as possible so that the whole foreground is within `data.size`; the rest is zero. With `data.spacing_mm` all
volumes get one scale instead, and what does not fit is cut at the border. Resampling is Pillow's antialiased BILINEAR, as for images, first
within each slice, then along the slices. Where slices lie over three times farther apart than pixels and more of them are needed, the
nearest slice is taken instead of a mixture of two (as in nnU-Net, Isensee et al., Nat Methods 18:203, 2021).

Where patches of volumes are read (data.volumes=patches), nothing is fitted or cut: a volume keeps its own shape, with voxels of
`data.spacing_mm`, and gets zeros at the border only where it is smaller than a patch.

MONAI's `Spacing` and `Resize` were measured and are not used: docs/decisions.md, "Volumes are resampled by Pillow".
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from PIL import Image

from medssl.config import Data
from medssl.data.preparation import build_transforms, in_bits, pad_or_crop, to_channels, transformed
from medssl.errors import ReadError
from medssl.types import Decoded, VolumeFacts, VolumeGrid

VERSIONS = {"whole": "3", "patches": "4"}  # versions 1 and 2 are of images
RESIZE = {
    "whole": "cubic voxels, the foreground as large as size, bilinear, antialiased; through thick slices the nearest",
    "patches": "voxels of spacing_mm, or as they are, all of the foreground, bilinear, antialiased; through thick slices the nearest",
}
PADDING = "zeros, on both sides of the shorter axes"
_THICK = 3.0  # times the edge of a pixel
_ANY_SIZE = (2**31,) * 3
Volume = Float32[np.ndarray, "c d h w"]


class VolumePreparation:
    """The preparation with the size, channels, spacing and transforms of `data`. Raises UserError for a transform that is not allowed or
    does not take its arguments."""

    def __init__(self, data: Data) -> None:
        spacing_mm = None if data.spacing_mm == "none" else data.spacing_mm
        assert not isinstance(data.size, int) and not isinstance(spacing_mm, int | float | str)  # median is a number by then
        self._size, self._channels, self._target_mm = data.size, data.channels, spacing_mm
        self._in_patches, self._limits = data.volumes == "patches", data.limits
        self._before = build_transforms(data)

    def __call__(self, decoded: Decoded) -> np.ndarray:
        """uint8 [channels, *size], or uint16 where the source stores more than 8 bits; for patches [channels, D, H, W], at least `size`.

        An 8-bit volume that already has this shape, without a border of air or zeros, keeps its values. Raises ReadError no_spacing where
        `data.spacing_mm` is set and the volume states no spacing, bad_channels, failed_transform, too_big where a
        volume for patches would have more voxels than `data.limits` allows.
        """
        box = decoded.volume.foreground if decoded.volume else None
        volume = decoded.pixels[:, *(slice(*ends) for ends in box)] if box else decoded.pixels
        if self._before:  # MONAI needs arrays whose axes run forwards
            volume = transformed(np.ascontiguousarray(volume), self._before)
        volume = to_channels(volume, self._channels)
        if self._in_patches:
            return self._in_full(volume, decoded)
        volume = fit_volume(volume, self._size, decoded.spacing_mm, self._target_mm)
        return in_bits(pad_or_crop(volume, self._size), decoded.bits)

    def _in_full(self, volume: Volume, decoded: Decoded) -> np.ndarray:
        """The volume with its own shape, or that of the spacing, and at least as large as a patch."""
        shape = [length * old / new for length, old, new in zip(volume.shape[1:], *self._spacings(decoded), strict=True)]
        if (voxels := len(volume) * math.prod(shape)) > self._limits.max_voxels:
            raise ReadError(f"too_big: {voxels:.2g} voxels after the preparation, data.limits.max_voxels is {self._limits.max_voxels}")
        if self._target_mm:
            volume = fit_volume(volume, _ANY_SIZE, decoded.spacing_mm, self._target_mm)
        deep, tall, wide = map(max, volume.shape[1:], self._size)
        volume = pad_or_crop(volume, (deep, tall, wide))
        return np.stack([in_bits(volume[:, number], decoded.bits) for number in range(volume.shape[1])], axis=1)  # needs no copy in float

    def facts(self, decoded: Decoded, shape: Sequence[int]) -> VolumeFacts | None:
        """The facts of a volume that was prepared to this `shape`. `to_lps` leads from its prepared voxels; it is None where the source
        does not say it, where `data.transforms` may have moved voxels, and where no patches are read."""
        facts = decoded.volume
        if facts is None or facts.to_lps is None:
            return facts
        if self._before or not self._in_patches:
            return replace(facts, to_lps=None)
        ends = np.array(facts.foreground or [(0, length) for length in decoded.pixels.shape[1:]])
        lengths = np.diff(ends)[:, 0]
        new = [_new_length(*each) for each in zip(lengths, *self._spacings(decoded), strict=True)]
        scale, padded = lengths / new, (np.array(shape) - new) // 2
        to_source = np.diag([*scale, 1.0])
        to_source[:3, 3] = ends[:, 0] + (0.5 - padded) * scale - 0.5
        return replace(facts, to_lps=facts.to_lps @ to_source)

    def _spacings(self, decoded: Decoded) -> tuple[Sequence[float], Sequence[float]]:
        """Before and after the preparation for patches; equal where each volume keeps its own."""
        old_mm = decoded.spacing_mm or (1.0, 1.0, 1.0)
        return old_mm, self._target_mm or old_mm


def voxels_in_full(grid: VolumeGrid, data: Data) -> int:
    """The voxels of a volume that is prepared for patches, of all channels, if nothing is cut off as air or zeros: 0 for one that is left
    out, as it has no spacing or is too big."""
    assert not isinstance(data.size, int) and not isinstance(data.spacing_mm, int | float)
    target_mm = None if isinstance(data.spacing_mm, str) else data.spacing_mm
    old_mm = grid.spacing_mm or (1.0, 1.0, 1.0)
    if (target_mm and not grid.spacing_mm) or not all(0 < mm < math.inf for mm in old_mm):
        return 0
    lengths = [_new_length(*each) for each in zip(grid.shape, old_mm, target_mm or old_mm, strict=True)]
    voxels = data.channels * math.prod(map(max, lengths, data.size))
    return voxels if voxels <= data.limits.max_voxels else 0


def fit_volume(
    volume: Volume, size: Sequence[int], spacing_mm: Sequence[float] | None = None, target_mm: Sequence[float] | None = None
) -> Volume:
    """The volume with cubic voxels, scaled so that the whole volume is within `size`; or with voxels of `target_mm`, and then the part that
    is within `size` around the middle.

    `spacing_mm`: between slices, rows and columns; None counts as cubic voxels. Raises ReadError no_spacing.
    """
    if target_mm and not spacing_mm:
        raise ReadError("no_spacing: the file does not state the size of its voxels, which data.spacing_mm needs")
    spacing_mm = spacing_mm or (1.0, 1.0, 1.0)
    lengths_mm = [length * mm for length, mm in zip(volume.shape[1:], spacing_mm, strict=True)]
    edge_mm = target_mm or (max(length / edge for length, edge in zip(lengths_mm, size, strict=True)),) * 3
    axes = [_axis(*each) for each in zip(volume.shape[1:], size, spacing_mm, edge_mm, strict=True)]
    through = int(np.argmax(spacing_mm))
    first, end = axes[through].part
    if spacing_mm[through] > _THICK * min(spacing_mm) and axes[through].length > end - first:
        axes[through] = axes[through]._replace(method=Image.Resampling.NEAREST)
    return np.stack([_resample(channel, axes) for channel in volume])


class _Axis(NamedTuple):
    """`length`: the voxels of the result; `part`: of the source's voxels, from where to where they are taken."""

    length: int
    part: tuple[float, float]
    method: Image.Resampling = Image.Resampling.BILINEAR


def _axis(old: int, most: int, old_mm: float, new_mm: float) -> _Axis:
    """The axis of `old` voxels of `old_mm` as voxels of `new_mm`, at most `most` of them, around the middle."""
    length = _new_length(old, old_mm, new_mm)
    if length <= most:
        return _Axis(length, (0.0, float(old)))
    half = min(old, most * new_mm / old_mm) / 2
    return _Axis(most, (old / 2 - half, old / 2 + half))


def _new_length(old: int, old_mm: float, new_mm: float) -> int:
    """The voxels of `new_mm` that an axis of `old` voxels of `old_mm` becomes."""
    return max(1, round(old * old_mm / new_mm))


def _resample(channel: Float32[np.ndarray, "d h w"], axes: Sequence[_Axis]) -> Float32[np.ndarray, "new_d new_h new_w"]:
    """The channel with these axes. Slices are resized one by one, so that little more memory than that of the result is needed."""
    depth, rows, columns = axes
    old_depth, old_rows, old_columns = channel.shape
    if (rows, columns) != (_unchanged(old_rows), _unchanged(old_columns)):
        resized = np.empty((old_depth, rows.length, columns.length), np.float32)
        for number, picture in enumerate(channel):
            part = 0, rows.part[0], old_columns, rows.part[1]
            of_rows = Image.fromarray(np.ascontiguousarray(picture)).resize((old_columns, rows.length), rows.method, part)
            part = columns.part[0], 0, columns.part[1], rows.length
            resized[number] = np.asarray(of_rows.resize((columns.length, rows.length), columns.method, part))
        channel = resized
    if depth == _unchanged(old_depth):
        return channel
    width = columns.length
    result = np.empty((depth.length, rows.length, width), np.float32)
    for row in range(rows.length):
        picture = Image.fromarray(np.ascontiguousarray(channel[:, row]))
        result[:, row] = np.asarray(picture.resize((width, depth.length), depth.method, (0, depth.part[0], width, depth.part[1])))
    return result


def _unchanged(length: int) -> _Axis:
    return _Axis(length, (0.0, float(length)))
