"""The executor for volumes on the CPU, in the loader's workers: OpenCV. `torch_volumes.py` makes the same views on a GPU.

It cuts, turns and resizes slice by slice, and then resizes from head to feet: on one core a volume of 64 voxels takes 0.8 ms
so, and 10 ms if torch samples it through a grid of positions. The changes of values are the same functions of torch for both.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8, UInt16

from medssl.views import volume_geometry, volume_intensity
from medssl.views.operations import VolumeGeometry, VolumeOperation
from medssl.views.torch_volumes import LARGEST_VALUE, Shape
from medssl.views.volume_geometry import Places

cv2.setNumThreads(0)  # the loader's workers are parallel already, and OpenCV's threads do not survive a fork


class ViewMaker:
    """Makes views of `size` voxels, of one volume at a time on the CPU. First comes the geometry of all `operations`, then the changes of
    values in their order."""

    def __init__(self, operations: Sequence[VolumeOperation], size: Shape) -> None:
        self.operations, self.size = tuple(operations), size

    def __call__(
        self, image: UInt8[np.ndarray, "c d h w"] | UInt16[np.ndarray, "c d h w"], key: tuple[int, ...]
    ) -> Float32[np.ndarray, "c dd hh ww"]:
        """The view of `image`, in [0, 1], for `key`, which is (seed, step, row, view). Equal keys give equal views in every process."""
        seed, step, row, view = key
        drawn = volume_geometry.draw_numbers(len(self.operations), torch.tensor([row]), step, seed, view)
        places = volume_geometry.places(self.operations, drawn, image.shape[1:], view)
        x = torch.from_numpy(_cut_out(image, places, self.size))[None]
        for number, operation in enumerate(self.operations):
            own = drawn.own[:, number]
            if not isinstance(operation, VolumeGeometry) and own[0, 0] < operation.p:
                x = volume_intensity.apply(operation, x, volume_intensity.tables(operation, own, self.size), drawn.keys[:, number])
        return x[0].numpy()


def _cut_out(image: np.ndarray, places: Places, size: Shape) -> Float32[np.ndarray, "c dd hh ww"]:
    """The view's box of a volume [c, d, h, w], turned, resized and mirrored: one interpolation in the slices, and one through them."""
    (z, y, x), (deep, tall, wide) = places.start[0].int().tolist(), places.side[0].int().tolist()
    angle, (depth, height, width) = float(places.angle[0]), size
    part = image[:, z : z + deep]
    part = part if angle else part[:, :, y : y + tall, x : x + wide]
    part = np.multiply(part, np.float32(1 / LARGEST_VALUE[image.dtype.name]), dtype=np.float32)
    matrix = _matrix(angle, (y, x), (tall, wide), (height, width))
    inside = np.empty((len(part), deep, height, width), np.float32)
    for slices, into in zip(part.reshape(-1, *part.shape[2:]), inside.reshape(-1, height, width), strict=True):
        if angle:
            cv2.warpAffine(slices, matrix, (width, height), dst=into, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        else:
            cv2.resize(slices, (width, height), dst=into, interpolation=cv2.INTER_LINEAR)
    through = [cv2.resize(lines.reshape(deep, -1), (height * width, depth), interpolation=cv2.INTER_LINEAR) for lines in inside]
    view = np.stack(through).reshape(len(part), depth, height, width)
    mirrored = tuple(axis for axis, of in enumerate(places.mirrored[0].tolist(), 1) if of)
    return np.ascontiguousarray(np.flip(view, mirrored))


def _matrix(angle: float, start: tuple[int, int], side: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """From (x, y) of the view to (x, y) of the slice, [2, 3]."""
    (y, x), (tall, wide), cos, sin = start, side, math.cos(angle), math.sin(angle)
    scale_y, scale_x = tall / size[0], wide / size[1]
    down, right = (scale_y - tall) / 2, (scale_x - wide) / 2  # of the first pixel, from the centre of the box
    middle_y, middle_x = y + (tall - 1) / 2, x + (wide - 1) / 2
    return np.array(
        [
            [cos * scale_x, -sin * scale_y, middle_x + cos * right - sin * down],
            [sin * scale_x, cos * scale_y, middle_y + sin * right + cos * down],
        ]
    )
