"""The executor for volumes on a GPU: torch, in batches. It needs no OpenCV, which a machine for GPUs may not have."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8, UInt16
from torch import Tensor
from torch.nn import functional as F

from medssl.views import volume_geometry, volume_intensity
from medssl.views.operations import VolumeGeometry, VolumeOperation
from medssl.views.volume_geometry import Places

Shape = tuple[int, int, int]
LARGEST_VALUE = {"uint8": 255, "uint16": 65535}


class BatchViewMaker:
    """Makes the views of `volumes.ViewMaker` of whole batches, on the device of the volumes. The CPU never waits for the device."""

    def __init__(self, operations: Sequence[VolumeOperation], size: Shape) -> None:
        self.operations, self.size = tuple(operations), size

    def batch(
        self, images: UInt8[Tensor, "b c d h w"] | UInt16[Tensor, "b c d h w"], rows: Int64[Tensor, " b"], step: int, seed: int, view: int
    ) -> Float32[Tensor, "b c dd hh ww"]:
        """The views, in [0, 1], of the `images` with these `rows` in the store, for the keys (seed, step, row, view)."""
        shape = (images.shape[2], images.shape[3], images.shape[4])
        drawn = volume_geometry.draw_numbers(len(self.operations), rows, step, seed, view)
        places = volume_geometry.places(self.operations, drawn, shape, view)
        with torch.autocast(images.device.type, enabled=False):  # a caller's bfloat16 has fewer bits than a voxel
            x = images.to(torch.float32) / LARGEST_VALUE[str(images.dtype).removeprefix("torch.")]
            x = _sample(x, places, self.size)
            for number, operation in enumerate(self.operations):
                if not isinstance(operation, VolumeGeometry):
                    own = drawn.own[:, number]
                    changed = volume_intensity.apply(operation, x, own[:, 1:], drawn.keys[:, number])
                    x = torch.where((own[:, 0] < operation.p)[:, None, None, None, None], changed, x)
            return x

    def __call__(self, image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """One view, made on the CPU; `key` is (seed, step, row, view)."""
        seed, step, row, view = key
        return self.batch(torch.tensor(image)[None], torch.tensor([row]), step, seed, view)[0].numpy()


def _sample(x: Float32[Tensor, "b c d h w"], places: Places, size: Shape) -> Float32[Tensor, "b c dd hh ww"]:
    """As `volumes._cut_out`, with torch on the volumes' device."""
    height, width = x.shape[3:]
    z, y, x_ = (volume_geometry.sample_points(places, axis, edge) for axis, edge in enumerate(size))
    down, right = volume_geometry.turn(places, y, x_)
    grid = torch.stack(((2 * right + 1) / width - 1, (2 * down + 1) / height - 1), dim=-1)
    slices = F.grid_sample(x.flatten(1, 2), grid, padding_mode="zeros", align_corners=False)
    return volume_intensity.along(slices.unflatten(1, x.shape[1:3]), volume_intensity.hat(z, x.shape[2]), 2)
