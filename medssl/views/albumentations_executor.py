"""The executor for CPUs: makes views with albumentations 2.0.8, its last MIT release. No other module imports albumentations.

`Compose` of albumentations is not used: it draws the same numbers in every worker and epoch unless it is reseeded, and its
`set_random_seed` gives every transform a generator with the *same* seed, so the flip, the crop and the angle depend on each other. Here all
transforms share two generators (Python's and NumPy's), whose states are set from the key at every call. So the draws are independent, and
small views take a fifth less time.
"""

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

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

cv2.setNumThreads(0)  # the loader's workers are parallel already, and OpenCV's threads do not survive a fork


class ViewMaker:
    """Applies `operations` in their order; the views have `size` x `size` pixels."""

    def __init__(self, operations: Sequence[Operation], size: int) -> None:
        self.operations, self.size = tuple(operations), size
        transforms = [_transform(operation, size) for operation in self.operations]
        if not any(isinstance(operation, ResizedCrop) for operation in self.operations):
            transforms.insert(0, A.Resize(size, size, area_for_downscale="image"))
        self._transforms = transforms
        self._random, self._generator = random.Random(0), np.random.default_rng(0)  # noqa: S311
        for transform in transforms:
            transform.set_random_state(self._generator, self._random)

    def __call__(
        self, image: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"], key: tuple[int, ...]
    ) -> UInt8[np.ndarray, "c size size"] | Float32[np.ndarray, "c size size"]:
        """The view of `image` (1 or 3 channels) for `key`, integers >= 0 such as (seed, step, row, view).

        uint8 images give uint8 views, uint16 images float32 views in [0, 1]. The same image and key give the same view in every process.
        """
        self._seed(key)
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        if pixels.dtype == np.uint16:
            pixels = pixels.astype(np.float32) / 65535
        for transform in self._transforms:
            pixels = transform(image=pixels)["image"]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _seed(self, key: tuple[int, ...]) -> None:
        """Sets both generators from the key. New generators would take twice the time. PCG64 accepts any state and any odd increment."""
        bits = blake2b(",".join(map(str, key)).encode(), digest_size=40).digest()
        state, stream, python = (int.from_bytes(part, "little") for part in (bits[:16], bits[16:32], bits[32:]))
        self._generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": stream | 1},
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._random.seed(python)

    def __reduce__(self) -> tuple[type["ViewMaker"], tuple[tuple[Operation, ...], int]]:
        return ViewMaker, (self.operations, self.size)


class _Rotate(A.ImageOnlyTransform):
    """A.Rotate without its matrices for boxes and masks, which take half of its time (0.14 of 0.27 ms at 224 pixels)."""

    def __init__(self, degrees: float, p: float) -> None:
        super().__init__(p=p)
        self.degrees = degrees

    def get_params(self) -> dict[str, float]:
        return {"degrees": self.py_random.uniform(-self.degrees, self.degrees)}

    def apply(self, img: np.ndarray, degrees: float, **_: object) -> np.ndarray:
        height, width = img.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale=1)
        return cv2.warpAffine(img, turn, (width, height)).reshape(img.shape)


_Step = Callable[[np.ndarray, float], np.ndarray]


class _ColourJitter(A.ImageOnlyTransform):
    """A.ColorJitter in a third of its time at 32 pixels. Weighted sums are rounded, not truncated, and hues have 256 steps, not 180."""

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float, p: float) -> None:
        super().__init__(p=p)
        self.ranges = [*((1 - share, 1 + share) for share in (brightness, contrast, saturation)), (-hue, hue)]

    def get_params(self) -> dict[str, Any]:
        amounts = [self.py_random.uniform(*ends) for ends in self.ranges]
        steps = list(zip(_STEPS, amounts, strict=True))
        self.py_random.shuffle(steps)
        return {"steps": steps}

    def apply(self, img: np.ndarray, steps: Sequence[tuple[_Step, float]], **_: object) -> np.ndarray:
        shape = img.shape
        for step, amount in steps:
            img = step(img, amount)
        return img.reshape(shape)


def _blend(img: np.ndarray, factor: float, other: np.ndarray | float) -> np.ndarray:
    """factor * img + (1 - factor) * other, clipped."""
    if isinstance(other, np.ndarray):
        mixed = cv2.addWeighted(img, factor, other, 1 - factor, 0)
    else:
        mixed = cv2.addWeighted(img, factor, img, 0, (1 - factor) * other)
    return mixed if mixed.dtype == np.uint8 else np.clip(mixed, 0, 1, out=mixed)  # OpenCV clips uint8 itself


def _brightness(img: np.ndarray, factor: float) -> np.ndarray:
    return _blend(img, factor, 0.0)


def _contrast(img: np.ndarray, factor: float) -> np.ndarray:
    return _blend(img, factor, cv2.mean(_grey(img))[0])


def _saturation(img: np.ndarray, factor: float) -> np.ndarray:
    return _blend(img, factor, cv2.cvtColor(_grey(img), cv2.COLOR_GRAY2RGB)) if img.shape[-1] == 3 else img


def _hue(img: np.ndarray, turn: float) -> np.ndarray:
    if img.shape[-1] != 3:
        return img
    if img.dtype == np.uint8:
        hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(256 * turn) % 256)  # 256 steps are the whole circle, and uint8 overflows at 256
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * turn) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _grey(img: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(img, cv2.COLOR_RGB2GRAY) if img.shape[-1] == 3 else img


_STEPS: tuple[_Step, ...] = (_brightness, _contrast, _saturation, _hue)


class _ToGray(A.ToGray):
    """A.ToGray without its warning for images that are grey already."""

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
            return _ColourJitter(brightness, contrast, saturation, hue, p)
        case Greyscale(p):
            return _ToGray(p=p)
