"""The executor for volumes on a GPU: torch, in batches. It needs no OpenCV, which a machine for GPUs may not have."""

from collections.abc import Sequence
from itertools import chain, islice

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8, UInt16
from torch import Tensor
from torch.nn import functional as F

from medssl.views import volume_geometry, volume_intensity
from medssl.views.operations import VolumeGeometry, VolumeOperation
from medssl.views.packing import to_device
from medssl.views.volume_geometry import Places

Shape = tuple[int, int, int]
Views = Sequence[int]  # their numbers
LARGEST_VALUE = {"uint8": 255, "uint16": 65535}


class BatchViewMaker:
    """Makes the views of `volumes.ViewMaker` of whole batches, on the device of the volumes. The CPU never waits for the device."""

    def __init__(self, operations: Sequence[VolumeOperation], size: Shape) -> None:
        self.operations, self.size = tuple(operations), size

    def batch(
        self, images: UInt8[Tensor, "b c d h w"] | UInt16[Tensor, "b c d h w"], rows: Int64[Tensor, " b"], step: int, seed: int, view: int
    ) -> Float32[Tensor, "b c dd hh ww"]:
        """The views, in [0, 1], of the `images` with these `rows` in the store, for the keys (seed, step, row, view). `rows` are on the
        host, wherever the images are."""
        return self.views(images, rows, step, seed, [view])[0]

    def views(
        self,
        images: UInt8[Tensor, "b c d h w"] | UInt16[Tensor, "b c d h w"],
        rows: Int64[Tensor, " b"],
        step: int,
        seed: int,
        views: Views,
    ) -> tuple[Float32[Tensor, "b c dd hh ww"], ...]:
        """Those of several views, in one pass."""
        shape = (images.shape[2], images.shape[3], images.shape[4])
        tables = [self._tables(rows, step, seed, view, shape) for view in views]
        keys, numbers, *positions = (torch.cat(parts) for parts in zip(*tables, strict=True))
        changes = [(number, of) for number, of in enumerate(self.operations) if not isinstance(of, VolumeGeometry)]
        of_changes = [volume_intensity.tables(of, numbers[:, number], self.size) for number, of in changes]
        keys, *rest = to_device([keys.T, *positions, *chain.from_iterable(of_changes)], images.device)
        parts = iter(rest)
        with torch.autocast(images.device.type, enabled=False):  # a caller's bfloat16 has fewer bits than a voxel
            x = images.to(torch.float32) / LARGEST_VALUE[str(images.dtype).removeprefix("torch.")]
            x = _sample(x.expand(len(views), *x.shape).flatten(0, 1), *islice(parts, len(positions)))
            for (number, operation), of in zip(changes, of_changes, strict=True):
                x = volume_intensity.apply(operation, x, [*islice(parts, len(of))], keys[number])
            return x.chunk(len(views))

    def _tables(self, rows: Tensor, step: int, seed: int, view: int, shape: Shape) -> tuple[Tensor, ...]:
        """Of one view: keys and random numbers of all operations, and positions."""
        drawn = volume_geometry.draw_numbers(len(self.operations), rows, step, seed, view)
        return drawn.keys, drawn.own, *_positions(volume_geometry.places(self.operations, drawn, shape, view), shape, self.size)

    def __call__(self, image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """One view, made on the CPU; `key` is (seed, step, row, view)."""
        seed, step, row, view = key
        return self.batch(torch.tensor(image)[None], torch.tensor([row]), step, seed, view)[0].numpy()


def _positions(places: Places, shape: Shape, size: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Of the views' slices in the volumes, and of rows and columns within a slice, as `volume_geometry.slice_lines`."""
    z, y, x = (volume_geometry.sample_points(places, axis, edge) for axis, edge in enumerate(size))
    return z, *volume_geometry.slice_lines(places, y, x, shape[1:])


def _sample(x: Float32[Tensor, "b c d h w"], z: Tensor, rows: Tensor, columns: Tensor) -> Float32[Tensor, "b c dd hh ww"]:
    """As `volumes._cut_out`, with torch on the volumes' device."""
    slices = F.grid_sample(x.flatten(1, 2), rows + columns, padding_mode="zeros", align_corners=False)
    return volume_intensity.along(slices.unflatten(1, x.shape[1:3]), volume_intensity.hat(z, x.shape[2]), 2)
