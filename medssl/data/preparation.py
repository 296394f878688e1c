"""The deterministic preparation: any decoded image becomes [channels, size, size] with 8 or 16 bits.

Nothing is cut off, because the base of a lung or the edge of a breast lies at the border. Pixels that are not square (`Decoded.spacing_mm`)
become square, the longer side becomes `size` pixels, and the shorter side is padded with black on both sides. With `data.spacing_mm` all
images get one scale instead, and what does not fit into `size` pixels is cut at the border. Shrinking is Pillow's antialiased BILINEAR.

The steps are functions on arrays; `as_compose` returns them as a MONAI `Compose`. `data.transforms` names MONAI transforms, from the list
below, that are applied before the steps. Without them MONAI is not imported: it takes 1.1 GB and seconds in every worker. MONAI's `Resize`
was measured and is not used: its mode "area" differs from a box filter by up to 0.2 of the range, and its Gaussian antialiasing takes
200 ms for an image of 1024 pixels, where this takes 5 ms.
"""

import importlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from medssl.config import Data, Transform
from medssl.data.formats import raise_if_of_the_machine
from medssl.errors import ReadError, UserError, suggest
from medssl.types import Decoded, Size, edges

if TYPE_CHECKING:
    from monai.transforms.compose import Compose

VERSION = "2"
Spacing = tuple[float, ...]  # of the rows and columns of an image, in mm
Transforms = Sequence[tuple[str, Callable[[Any], Any]]]
_TRIAL_EDGE, _TRIAL_EDGE_OF_VOLUMES = 512, 64  # of the artificial image, so that windows and kernels fit into it
_LUMINANCE = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601, as in Pillow's mode L

# Array transforms of monai.transforms that are deterministic, open no files and take no code as arguments
_NAMES = """AdjustContrast CenterSpatialCrop ClipIntensityPercentiles CropForeground Flip GaussianSharpen GaussianSmooth HistogramNormalize
    MedianSmooth Resize ResizeWithPadOrCrop Rotate90 SavitzkyGolaySmooth ScaleIntensity ScaleIntensityRange ScaleIntensityRangePercentiles
    SpatialPad"""
ALLOWED = tuple(f"monai.transforms.{name}" for name in _NAMES.split())


class Preparation:
    """The preparation with the size, channels, spacing and transforms of `data`. Raises UserError for a transform that is not allowed or
    does not take its arguments."""

    def __init__(self, data: Data) -> None:
        assert isinstance(data.size, int) and not isinstance(data.spacing_mm, tuple | str)
        self._size, self._channels, self._spacing_mm = data.size, data.channels, data.spacing_mm
        self._before = build_transforms(data)

    def __call__(self, decoded: Decoded) -> np.ndarray:
        """uint8 [channels, size, size], or uint16 where the source stores more than 8 bits.

        An 8-bit image that already has this shape keeps its values. Raises ReadError no_spacing where `data.spacing_mm` is set and the
        image states no spacing, bad_channels where the image's channels cannot be converted, failed_transform where one of
        `data.transforms` raises an error for this image.
        """
        image = transformed(decoded.pixels, self._before)
        for step in steps(self._size, self._channels, decoded.spacing_mm, self._spacing_mm):
            image = step(image)
        return in_bits(image, decoded.bits)


def build_transforms(data: Data) -> Transforms:
    """The transforms of `data`, each with its name. Raises UserError as `Preparation` does."""
    return [(step.name, _transform(step)) for step in data.transforms]


def transformed(image: Float32[np.ndarray, "c ..."], transforms: Transforms) -> Float32[np.ndarray, "c ..."]:
    """The image after each of the transforms. Raises ReadError failed_transform."""
    for name, transform in transforms:
        try:
            image = np.asarray(transform(image), np.float32)
        except Exception as error:  # each transform of MONAI raises its own kinds
            raise_if_of_the_machine(error)
            raise ReadError(f"failed_transform: {name} cannot be applied ({type(error).__name__})") from error
    return image


def in_bits(image: Float32[np.ndarray, "c ..."], bits: int) -> np.ndarray:
    """The image in [0, 1] as uint8, or as uint16 where its source stores more than 8 `bits`."""
    largest, dtype = (65535, np.uint16) if bits > 8 else (255, np.uint8)
    return np.rint(np.clip(image, 0, 1) * largest).astype(dtype)


def check_transforms(data: Data) -> None:
    """Builds the transforms of `data` and applies each to an artificial image of one channel, before workers do so for every image.

    Raises UserError for a transform that is not allowed, that does not take its arguments, or that fails on that image.
    """
    trial = (_TRIAL_EDGE,) * 2 if isinstance(data.size, int) else (_TRIAL_EDGE_OF_VOLUMES,) * 3
    image = np.random.default_rng(0).random((1, *trial), np.float32)
    for step in data.transforms:
        transform = _transform(step)
        try:
            with warnings.catch_warnings(action="ignore"):
                image = np.asarray(transform(image), np.float32)
        except Exception as error:
            raise _wrong_arguments(step, error) from None
        if image.ndim != 1 + len(trial):
            axes = "channels, rows, columns" if len(trial) == 2 else "channels, slices, rows, columns"
            raise UserError(f"data.transforms: {step.name} makes an array of {image.ndim} axes, not [{axes}].")


def steps(
    size: int, channels: int, spacing_mm: Spacing | None = None, target_mm: float | None = None
) -> tuple[Callable[[np.ndarray], np.ndarray], ...]:
    """The preparation as functions that are called in order, from float32 [C, H, W] to [channels, size, size], both in [0, 1].

    `spacing_mm`: of the image's rows and columns; `target_mm`: the edge of a pixel of the result, None to fit the image into `size`.
    """
    return (
        partial(to_channels, channels=channels),
        partial(fit, size=size, spacing_mm=spacing_mm, target_mm=target_mm),
        partial(pad_or_crop, size=size),
    )


def as_compose(size: int, channels: int) -> "Compose":
    """The same steps as a MONAI `Compose`, for images with square pixels. Imports MONAI."""
    from monai.transforms.compose import Compose

    return Compose(steps(size, channels))


def to_channels(image: Float32[np.ndarray, "c ..."], channels: int) -> Float32[np.ndarray, "out ..."]:
    """The image or volume with that number of channels: colours become luminance, a grey channel is repeated. Raises ReadError
    bad_channels."""
    image = np.asarray(image, np.float32)
    if len(image) == channels:
        return image
    if len(image) == 1:
        return np.repeat(image, channels, axis=0)
    if len(image) == 3 and channels == 1:
        return np.tensordot(_LUMINANCE, image, axes=1)[None]
    raise ReadError(f"bad_channels: {len(image)} channels, wanted are {channels}")


def fit(
    image: Float32[np.ndarray, "c h w"], size: int, spacing_mm: Spacing | None = None, target_mm: float | None = None
) -> Float32[np.ndarray, "c new_h new_w"]:
    """The image with square pixels, scaled so that the longer side has `size` pixels, or so that a pixel's edge is `target_mm`. Raises
    ReadError no_spacing or bad_header."""
    if target_mm and not spacing_mm:
        raise ReadError("no_spacing: the file does not state the size of its pixels, which data.spacing_mm needs")
    lengths = [length * spacing for length, spacing in zip(image.shape[1:], spacing_mm or (1, 1), strict=True)]
    scale = 1 / target_mm if target_mm else size / max(lengths)
    height, width = (max(1, round(length * scale)) for length in lengths)
    if target_mm and max(height, width) > 64 * size:
        raise ReadError(f"bad_header: a pixel spacing that makes {height} x {width} pixels")
    if (height, width) == image.shape[1:]:
        return image
    resized = [Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR) for channel in image]
    return np.stack([np.asarray(channel) for channel in resized])


def pad_or_crop(image: Float32[np.ndarray, "c ..."], size: Size) -> Float32[np.ndarray, "c ..."]:
    """The image or volume with black on both sides where it is smaller than `size`, and its middle where it is larger."""
    for axis, edge in enumerate(edges(size), start=1):
        missing = edge - image.shape[axis]
        if missing > 0:
            sides = [(0, 0)] * image.ndim
            sides[axis] = (missing // 2, missing - missing // 2)
            image = np.pad(image, sides)
        elif missing < 0:
            image = np.take(image, range(-missing // 2, -missing // 2 + edge), axis)
    return image


def _transform(step: Transform) -> Callable[[Any], Any]:
    """The MONAI transform that a step names. Raises UserError where the transform is not allowed or does not take the arguments: MONAI
    raises many kinds of exceptions for those."""
    if step.name not in ALLOWED:
        raise UserError(f"data.transforms: {step.name!r} is not among the transforms that are allowed. {suggest(step.name, ALLOWED)}")
    module, _, name = step.name.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    try:
        return kind(**(step.model_extra or {}))
    except Exception as error:
        raise _wrong_arguments(step, error) from None


def _wrong_arguments(step: Transform, error: Exception) -> UserError:
    reason = str(error).strip() or type(error).__name__
    return UserError(f"data.transforms: {step.name} does not take {step.model_extra or {}}: {reason}")
