"""Makes views on the CPU with albumentations 2.0.8, its last MIT release: the one module that imports it.

Its `Compose` draws the same numbers in every worker and every epoch unless it is reseeded, and `Compose.set_random_seed` gives each
transform a generator of its own with the *same* seed, which ties the flip to the size of the crop and that to the angle. Hence one
generator for the whole pipeline is made from the key at every call and shared by all transforms: independent draws, 0.04 ms.
"""

import random
from collections.abc import Sequence

import albumentations as A
import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from medssl.views.operations import (
    Blur,
    BrightnessContrast,
    ColourJitter,
    CutOut,
    Gamma,
    Greyscale,
    HorizontalFlip,
    Noise,
    Operation,
    ResizedCrop,
    Rotation,
    VerticalFlip,
)

cv2.setNumThreads(0)  # the parallel work is that of the loader's workers; OpenCV's threads also do not survive a fork


class ViewMaker:
    """Applies `operations` in their order; the views are `size` pixels square."""

    def __init__(self, operations: Sequence[Operation], size: int) -> None:
        self.operations, self.size = tuple(operations), size
        transforms: list[A.BasicTransform | A.BaseCompose] = [_transform(operation, size) for operation in self.operations]
        if not any(isinstance(operation, ResizedCrop) for operation in self.operations):
            transforms.insert(0, A.Resize(size, size, area_for_downscale="image"))
        self._pipeline = A.Compose(transforms)

    def __call__(
        self, image: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"], key: tuple[int, ...]
    ) -> UInt8[np.ndarray, "c size size"] | Float32[np.ndarray, "c size size"]:
        """The view of `image` (1 or 3 channels) that belongs to `key`, integers >= 0 such as (seed, step, row, view).

        uint8 images give uint8 views, uint16 images float32 views in [0, 1]. The same image and key give the same view in every process.
        """
        generator = np.random.default_rng(np.random.SeedSequence(key))
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))  # noqa: S311
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        if pixels.dtype == np.uint16:
            pixels = pixels.astype(np.float32) / 65535
        view = self._pipeline(image=pixels)["image"]
        return np.ascontiguousarray(view.transpose(2, 0, 1))

    def __reduce__(self) -> tuple[type["ViewMaker"], tuple[tuple[Operation, ...], int]]:
        return ViewMaker, (self.operations, self.size)


class _Rotate(A.ImageOnlyTransform):
    """A.Rotate without the matrices for boxes and masks, which take as long as the turn itself (0.14 of 0.27 ms at 224 pixels)."""

    def __init__(self, degrees: float, p: float) -> None:
        super().__init__(p=p)
        self.degrees = degrees

    def get_params(self) -> dict[str, float]:
        return {"degrees": self.py_random.uniform(-self.degrees, self.degrees)}

    def apply(self, img: np.ndarray, degrees: float, **_: object) -> np.ndarray:
        height, width = img.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale=1)
        return cv2.warpAffine(img, turn, (width, height)).reshape(img.shape)


class _ToGray(A.ToGray):
    """albumentations warns of every image that is grey already; here that is a case like any other."""

    def apply(self, img: np.ndarray, **params: object) -> np.ndarray:
        return img if img.shape[2] == 1 else super().apply(img, **params)


def _transform(operation: Operation, size: int) -> A.BasicTransform:
    match operation:
        case ResizedCrop(area, aspect):
            return A.RandomResizedCrop((size, size), scale=area, ratio=aspect, area_for_downscale="image")
        case HorizontalFlip(p):
            return A.HorizontalFlip(p=p)
        case VerticalFlip(p):
            return A.VerticalFlip(p=p)
        case Rotation(degrees, p):
            return _Rotate(degrees, p)
        case BrightnessContrast(brightness, contrast, p):
            return A.RandomBrightnessContrast((-brightness, brightness), (-contrast, contrast), p=p)
        case Gamma((low, high), p):
            return A.RandomGamma((100 * low, 100 * high), p=p)  # in percent
        case Blur((low, high), p):
            return A.GaussianBlur(blur_limit=0, sigma_limit=(low * size, high * size), p=p)
        case Noise(std, p):
            return A.GaussNoise(std_range=std, p=p)
        case CutOut((low, high), p):
            pixels = max(1, round(low * size)), max(1, round(high * size))
            return A.CoarseDropout((1, 1), hole_height_range=pixels, hole_width_range=pixels, p=p)
        case ColourJitter(brightness, contrast, saturation, hue, p):
            return A.ColorJitter(_around_one(brightness), _around_one(contrast), _around_one(saturation), (-hue, hue), p=p)
        case Greyscale(p):
            return _ToGray(p=p)


def _around_one(share: float) -> tuple[float, float]:
    return 1 - share, 1 + share
