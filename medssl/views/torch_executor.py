"""The executor for GPUs: makes the views of a whole batch with torch, on the device of its images.

The random numbers of a sample depend on its key only (`keyed_random.py`). The CPU never waits for the device: no value is read back, and no
shape depends on a value. An operation is computed for all samples, and its result is used for those that it applies to. Views are float32
and are not rounded between operations; albumentations rounds to 8 bits. A crop and a rotation together are one interpolation, not two, so
such views are 3 to 9 percent sharper.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8, UInt16
from torch import Tensor

from medssl.views import geometry, intensity, keyed_random
from medssl.views.keyed_random import between
from medssl.views.operations import (
    Blur,
    BrightnessContrast,
    ColourJitter,
    CutOut,
    Gamma,
    Greyscale,
    Noise,
    Operation,
    ResizedCrop,
)

Intensity = BrightnessContrast | Gamma | Blur | Noise | CutOut | ColourJitter | Greyscale
_LARGEST_VALUE = {torch.uint8: 255, torch.uint16: 65535}
_NUMBERS = geometry.NUMBERS  # random numbers that are drawn for each operation


class ViewMaker:
    """Applies `operations` in their order; the views have `size` x `size` pixels.

    `compiled`: whether torch.compile joins some hundred GPU kernels into a few, which takes half a minute at the first batch of each shape.
    """

    def __init__(self, operations: Sequence[Operation], size: int, compiled: bool = False) -> None:
        self.operations, self.size, self.compiled = tuple(operations), size, compiled
        resized = any(isinstance(operation, ResizedCrop) for operation in operations)
        self._steps = self.operations if resized else (geometry.Resize(), *self.operations)
        self._views = torch.compile(self._apply_all, fullgraph=True, dynamic=False) if compiled else self._apply_all

    def batch(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"], rows: Int64[Tensor, " b"], step: int, seed: int, view: int
    ) -> Float32[Tensor, "b c size size"]:
        """The views, in [0, 1], of the `images` with these `rows` in the store, for the keys (seed, step, row, view)."""
        return self.views(images, keyed_random.keys(seed, step, rows, view))

    def views(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"], keys: Int64[Tensor, " b"]
    ) -> Float32[Tensor, "b c size size"]:
        """The view of each image for its key, on the device of the images. The other images of the batch have no influence."""
        keys = keyed_random.fold_in(keys[:, None], torch.arange(len(self._steps), device=keys.device))
        return self._views(images, keys, keyed_random.uniform(keys, _NUMBERS))

    def __call__(
        self, image: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"], key: tuple[int, ...]
    ) -> Float32[np.ndarray, "c size size"]:
        """One view, made on the CPU; `key` is (seed, step, row, view)."""
        seed, step, row, view = key
        return self.batch(torch.tensor(image)[None], torch.tensor([row]), step, seed, view)[0].numpy()

    def __reduce__(self) -> tuple[type["ViewMaker"], tuple[tuple[Operation, ...], int, bool]]:
        return ViewMaker, (self.operations, self.size, self.compiled)

    def _apply_all(self, images: Tensor, keys: Tensor, drawn: Tensor) -> Tensor:
        """The views [b, c, size, size]. `keys`: int64 [b, operations]; `drawn`: [b, operations, numbers], random numbers in [0, 1)."""
        moves: list[tuple[geometry.Geometry, Tensor]] = []
        with torch.autocast(images.device.type, enabled=False):  # a caller's bfloat16 has fewer bits than a pixel
            x = images.to(torch.float32) / _LARGEST_VALUE[images.dtype]
            for number, operation in enumerate(self._steps):
                if isinstance(operation, geometry.Geometry):
                    moves.append((operation, drawn[:, number]))
                else:
                    x = geometry.sample(x, moves, self.size)
                    x = _apply_where_drawn(operation, x, drawn[:, number], keys[:, number], self.size)
                    moves = []
            return geometry.sample(x, moves, self.size).clamp(0, 1)  # sums of weights may be 1 + 1e-7


def _apply_where_drawn(operation: Intensity, x: Tensor, drawn: Tensor, keys: Tensor, size: int) -> Tensor:
    """The images `x` after `operation`, which each image gets with the probability p. Its first random number in `drawn` decides."""
    first, *shares = drawn.T[..., None, None, None]
    return torch.where(first < operation.p, _apply(operation, x, shares, keys, size), x)


def _apply(operation: Intensity, x: Tensor, shares: list[Tensor], keys: Tensor, size: int) -> Tensor:
    """The images `x` after `operation`. `shares`: random numbers in [0, 1), each [b, 1, 1, 1], for the parameters in their ranges."""
    match operation:
        case BrightnessContrast(brightness, contrast):
            offset, gain = between(shares[0], -brightness, brightness), between(shares[1], 1 - contrast, 1 + contrast)
            return (x * gain + offset).clamp(0, 1)
        case Gamma(exponent):
            return x ** between(shares[0], *exponent)
        case Blur((low, high)):
            return intensity.blur(x, between(shares[0], low * size, high * size), high * size)
        case Noise(std):
            noise = keyed_random.normal(keyed_random.fold_in(keys, _NUMBERS), x[0].numel()).reshape(x.shape)
            return (x + between(shares[0], *std) * noise).clamp(0, 1)
        case CutOut((low, high)):
            shortest, longest = max(1, round(low * size)), max(1, round(high * size))
            tall, wide = (shortest + ((longest - shortest + 1) * share).floor() for share in shares[:2])
            return intensity.cut_out(x, tall, wide, *shares[2:4])
        case ColourJitter(brightness, contrast, saturation, hue):
            factors = [between(share, 1 - s, 1 + s) for share, s in zip(shares[:3], (brightness, contrast, saturation), strict=True)]
            order = torch.cat(shares[4:8], dim=1).argsort(dim=1)  # of random numbers: each of the 24 is equally likely
            return intensity.colour_jitter(x, torch.cat(factors, dim=1), between(shares[3], -hue, hue), order)
        case Greyscale():
            return intensity.grey(x).expand_as(x)
