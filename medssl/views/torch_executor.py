"""The executor for GPUs: makes the views of a whole batch with torch, on the device of its images.

The random numbers of a sample depend on its key only (`keyed_random.py`). The host draws them for the whole batch, computes from them what
an operation needs of each image, and copies that to the device at once; only noise is drawn there. So few kernels are launched. The host
never waits for the device: no value is read back, and no shape depends on a value. An operation is computed for all samples, with numbers
that change nothing for those that it does not apply to. Views are float32 and are not rounded between operations; albumentations rounds to
8 bits. A crop and a rotation together are one interpolation, not two, so such views are 3 to 9 percent sharper.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

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
    Rotation,
)
from medssl.views.packing import to_device

Intensity = BrightnessContrast | Gamma | Blur | Noise | CutOut | ColourJitter | Greyscale
_LARGEST_VALUE = {torch.uint8: 255, torch.uint16: 65535}
_NUMBERS = geometry.NUMBERS  # random numbers of an operation; the key of its noise is the number after them
_USED = {ResizedCrop: _NUMBERS, Rotation: 2, BrightnessContrast: 3, Gamma: 2, Blur: 2, Noise: 2, CutOut: 5, ColourJitter: 9}  # others: 1
Plan = geometry.Places | Intensity  # what is done on the device


class ViewMaker:
    """Applies `operations` in their order; the views have `size` x `size` pixels.

    `compiled`: whether torch.compile joins the GPU kernels into a few, which takes half a minute at the first batch of each shape.
    """

    def __init__(self, operations: Sequence[Operation], size: int, compiled: bool = False) -> None:
        self.operations, self.size, self.compiled = tuple(operations), size, compiled
        resized = any(isinstance(operation, ResizedCrop) for operation in operations)
        self._steps = self.operations if resized else (geometry.Resize(), *self.operations)
        self._views = torch.compile(_apply_all, fullgraph=True, dynamic=False) if compiled else _apply_all
        self._used = [_USED.get(type(step), 1) for step in self._steps]  # random numbers of each operation
        self._index = torch.cat([torch.arange(number) for number in self._used])

    def batch(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"], rows: Int64[Tensor, " b"], step: int, seed: int, view: int
    ) -> Float32[Tensor, "b c size size"]:
        """The views, in [0, 1], of the `images` with these `rows` in the store, for the keys (seed, step, row, view). `rows` are on the
        host, wherever the images are."""
        return self.views(images, keyed_random.keys(seed, step, rows, view))

    def views(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"], keys: Int64[Tensor, " n"]
    ) -> Float32[Tensor, "n c size size"]:
        """The view of each image for its key, on the device of the images; the other images of the batch have no influence. `keys` are on
        the host: those of the first view of each image, of the second view of each image, and so on."""
        keys = keyed_random.fold_in(keys[:, None], torch.arange(len(self._steps)))
        own = [keys[:, number : number + 1].expand(-1, used) for number, used in enumerate(self._used)]
        drawn = keyed_random.uniform_at(torch.cat(own, dim=1), self._index).split(self._used, dim=1)
        plans, tables = self._prepare((images.shape[2], images.shape[3]), images.shape[1], drawn)
        noise = [number for number, step in enumerate(self._steps) if isinstance(step, Noise)]
        of_noise = keyed_random.fold_in(keys[:, noise], _NUMBERS).T
        of_noise, *tables = to_device([of_noise, *tables], images.device)
        return self._views(images, plans, tables, of_noise)

    def __call__(
        self, image: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"], key: tuple[int, ...]
    ) -> Float32[np.ndarray, "c size size"]:
        """One view, made on the CPU; `key` is (seed, step, row, view)."""
        seed, step, row, view = key
        return self.batch(torch.tensor(image)[None], torch.tensor([row]), step, seed, view)[0].numpy()

    def __reduce__(self) -> tuple[type["ViewMaker"], tuple[tuple[Operation, ...], int, bool]]:
        return ViewMaker, (self.operations, self.size, self.compiled)

    def _prepare(self, frame: geometry.Frame, channels: int, drawn: Sequence[Tensor]) -> tuple[list[Plan], list[Tensor]]:
        """What is done on the device, with a table of numbers for each operation, and several for geometry. `frame`: the images' size."""
        plans: list[Plan] = []
        tables: list[Tensor] = []
        steps = zip(self._steps, drawn, strict=True)
        for is_geometry, group in groupby(steps, lambda step: isinstance(step[0], geometry.Geometry)):
            if is_geometry:
                places, of_places = geometry.places(list(group), frame, self.size)  # pyright: ignore[reportArgumentType]
                plans.append(places)
                tables += of_places
                frame = places.frame
            else:
                for operation, numbers in group:
                    plans.append(operation)  # pyright: ignore[reportArgumentType]
                    tables.append(_numbers(operation, numbers, frame, channels, self.size))  # pyright: ignore[reportArgumentType]
        return plans, tables


def _numbers(operation: Intensity, drawn: Tensor, frame: geometry.Frame, channels: int, size: int) -> Tensor:
    """What `operation` needs on the device for each image, [b, ...]. `drawn`: its random numbers in [0, 1), [b, numbers]; by the first one
    it is applied with the probability p, and otherwise the numbers are those that change nothing."""
    applied, *shares = drawn.split(1, dim=1)
    applied = applied < operation.p
    match operation:
        case BrightnessContrast(brightness, contrast):
            offset, gain = between(shares[0], -brightness, brightness), between(shares[1], 1 - contrast, 1 + contrast)
            return torch.cat((torch.where(applied, offset, 0), torch.where(applied, gain, 1)), dim=1)
        case Gamma(exponent):
            return torch.where(applied, between(shares[0], *exponent), 1)
        case Blur((low, high)):
            sigma = torch.where(applied, between(shares[0], low * size, high * size), 0)
            return intensity.blur_kernels(sigma, high * size, frame)
        case Noise(std):
            return torch.where(applied, between(shares[0], *std), 0)
        case CutOut((low, high)):
            shortest, longest = max(1, round(low * size)), max(1, round(high * size))
            tall, wide = (shortest + ((longest - shortest + 1) * share).floor() for share in shares[:2])
            return torch.where(applied, intensity.box(tall, wide, shares[2], shares[3], frame), 0)
        case ColourJitter(brightness, contrast, saturation, hue):
            factors = [between(share, 1 - s, 1 + s) for share, s in zip(shares[:3], (brightness, contrast, saturation), strict=True)]
            order = torch.cat(shares[4:8], dim=1).argsort(dim=1)  # of random numbers: each of the 24 is equally likely
            matrices = intensity.jitter_matrices(torch.where(applied, torch.cat(factors, dim=1), 1), order, channels)
            return torch.cat((torch.where(applied, between(shares[3], -hue, hue), 0), matrices.flatten(1)), dim=1)
        case Greyscale():
            return torch.where(applied[..., None], intensity.to_grey(channels), torch.eye(channels))


def _apply_all(images: Tensor, plans: Sequence[Plan], tables: Sequence[Tensor], of_noise: Tensor) -> Tensor:
    """The views [n, c, size, size]. `tables`: as of `_prepare`, on the device; `of_noise`: [operations with noise, n], their keys."""
    rest, keys = iter(tables), iter(of_noise)
    with torch.autocast(images.device.type, enabled=False):  # a caller's bfloat16 has fewer bits than a pixel
        views = images.expand(of_noise.shape[1] // len(images), *images.shape)
        views = views if images.dtype == torch.uint8 else views.to(torch.float32)  # torch divides no uint16
        x = (views / _LARGEST_VALUE[images.dtype]).flatten(0, 1)
        for plan in plans:
            if isinstance(plan, geometry.Places):
                x = geometry.sample(x, plan, list(islice(rest, 1 + len(plan.kinds))))
            else:
                x = _apply(plan, x, next(rest), keys)
        return x.clamp(0, 1)  # sums of weights may be 1 + 1e-7


def _apply(operation: Intensity, x: Tensor, numbers: Tensor, keys: Iterator[Tensor]) -> Tensor:
    """The images `x` after `operation`, with its table of `_numbers`."""
    match operation:
        case BrightnessContrast():
            offset, gain = numbers[..., None, None, None].unbind(1)
            return torch.addcmul(offset, x, gain).clamp_(0, 1)
        case Gamma():
            return x ** numbers[..., None, None]
        case Blur():
            return intensity.blur(x, numbers)
        case Noise():
            noise = keyed_random.normal(next(keys), x[0].numel()).view_as(x)
            return torch.addcmul(x, noise, numbers[..., None, None]).clamp_(0, 1)
        case CutOut():
            return intensity.cut_out(x, numbers)
        case ColourJitter():
            turn, matrices = numbers[:, :1, None, None], numbers[:, 1:]
            return intensity.colour_jitter(x, matrices.view(len(x), -1, 2, x.shape[1], x.shape[1]), turn)
        case Greyscale():
            return (numbers @ x.flatten(2)).view_as(x)
