"""The deterministic preparation of whole volumes: any decoded volume becomes [channels, slices, rows, columns] of `data.size`, with 8 or 16
bits.

    the foreground (air of CT and zeros at the border are cut off) -> `data.transforms` -> channels -> cubic voxels -> zeros at the border

Voxels become cubes, as large as possible so that the whole foreground is within `data.size`; the rest is zero. With `data.spacing_mm` all
volumes get one scale instead, and what does not fit is cut at the border. Resampling is Pillow's antialiased BILINEAR, as for images, first
within each slice, then along the slices. Where slices lie over three times farther apart than pixels and more of them are needed, the
nearest slice is taken instead of a mixture of two (as in nnU-Net, Isensee et al., Nat Methods 18:203, 2021).

MONAI's `Spacing` and `Resize` were measured and are not used: docs/decisions.md, "Volumes are resampled by Pillow".
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from PIL import Image

from medssl.config import Data
from medssl.data.preparation import build_transforms, in_bits, pad_or_crop, to_channels, transformed
from medssl.errors import ReadError
from medssl.types import Decoded, edges

VERSION = "3"  # versions 1 and 2 are of images
RESIZE = "cubic voxels, the foreground as large as size, bilinear, antialiased; through thick slices the nearest"
PADDING = "zeros, on both sides of the shorter axes"
_THICK = 3.0  # times the edge of a pixel
Volume = Float32[np.ndarray, "c d h w"]


class VolumePreparation:
    """The preparation with the size, channels, spacing and transforms of `data`. Raises UserError for a transform that is not allowed or
    does not take its arguments."""

    def __init__(self, data: Data) -> None:
        assert not isinstance(data.spacing_mm, float)
        self._size, self._channels, self._target_mm = edges(data.size), data.channels, data.spacing_mm
        self._before = build_transforms(data)

    def __call__(self, decoded: Decoded) -> np.ndarray:
        """uint8 [channels, *size], or uint16 where the source stores more than 8 bits.

        An 8-bit volume that already has this shape, without a border of air or zeros, keeps its values. Raises ReadError no_spacing where
        `data.spacing_mm` is set and the volume states no spacing, bad_channels, failed_transform.
        """
        box = decoded.volume.foreground if decoded.volume else None
        volume = decoded.pixels[:, *(slice(*ends) for ends in box)] if box else decoded.pixels
        volume = to_channels(transformed(volume, self._before), self._channels)
        volume = fit_volume(volume, self._size, decoded.spacing_mm, self._target_mm)
        return in_bits(pad_or_crop(volume, self._size), decoded.bits)


def fit_volume(
    volume: Volume, size: tuple[int, ...], spacing_mm: Sequence[float] | None = None, target_mm: Sequence[float] | None = None
) -> Volume:
    """The volume with cubic voxels, scaled so that the whole volume is within `size`; or with voxels of `target_mm`, and then at least the
    part of the volume that is within `size` around its middle.

    `spacing_mm`: between slices, rows and columns; None counts as cubic voxels. Raises ReadError no_spacing.
    """
    if target_mm and not spacing_mm:
        raise ReadError("no_spacing: the file does not state the size of its voxels, which data.spacing_mm needs")
    spacing_mm = spacing_mm or (1.0, 1.0, 1.0)
    if target_mm:
        volume = _middle(volume, [math.ceil((edge + 1) * mm / old) for edge, mm, old in zip(size, target_mm, spacing_mm, strict=True)])
    lengths_mm = [length * mm for length, mm in zip(volume.shape[1:], spacing_mm, strict=True)]
    edge_mm = target_mm or (max(length / edge for length, edge in zip(lengths_mm, size, strict=True)),) * 3
    shape = [max(1, round(length / mm)) for length, mm in zip(lengths_mm, edge_mm, strict=True)]
    through = int(np.argmax(spacing_mm))
    thick = spacing_mm[through] > _THICK * min(spacing_mm) and shape[through] > volume.shape[1 + through]
    filters = [Image.Resampling.NEAREST if thick and axis == through else Image.Resampling.BILINEAR for axis in range(3)]
    return np.stack([_resample(channel, shape, filters) for channel in volume])


def _middle(volume: Volume, lengths: Sequence[int]) -> Volume:
    """The volume without equal parts at both ends of each axis, so that these lengths remain at least."""
    cuts = [max(0, (have - wanted) // 2) for have, wanted in zip(volume.shape[1:], lengths, strict=True)]
    return volume[:, *(slice(cut, have - cut) for cut, have in zip(cuts, volume.shape[1:], strict=True))]


def _resample(
    channel: Float32[np.ndarray, "d h w"], shape: Sequence[int], filters: Sequence[Image.Resampling]
) -> Float32[np.ndarray, "new_d new_h new_w"]:
    """The channel with that shape; `filters`: of each axis. Slices are resized one by one, so that little more memory than that of the
    result is needed."""
    depth, height, width = shape
    if channel.shape[1:] != (height, width):
        resized = np.empty((len(channel), height, width), np.float32)
        for number, picture in enumerate(channel):
            rows = Image.fromarray(np.ascontiguousarray(picture)).resize((picture.shape[1], height), filters[1])
            resized[number] = rows.resize((width, height), filters[2])
        channel = resized
    if len(channel) == depth:
        return channel
    result = np.empty((depth, height, width), np.float32)
    for row in range(height):
        result[:, row] = Image.fromarray(np.ascontiguousarray(channel[:, row])).resize((width, depth), filters[0])
    return result
