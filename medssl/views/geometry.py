"""Crops, flips and rotations of a batch: any sequence of them is one bilinear sampling of the images.

The positions of the view's pixels are mapped back through the operations, from the last to the first, to positions in the image. The
centre of pixel i is at i, so an edge of n pixels reaches from -1/2 to n - 1/2. As in OpenCV, a crop shows no pixels outside its box, and a
rotation fills up with black: `coverage` is the share of a sample that comes from inside the image.

Shrinking averages pixels like OpenCV's INTER_AREA, where image pixels are squares and a view pixel that is s of them wide is their mean. A
bilinear sample is the mean over a square of one pixel, so the mean of s samples, one pixel apart, equals INTER_AREA. Here the mean of n
samples is taken, with the same n for all views, at a distance d at which the variance of their positions is that of the box:
d^2 (n^2 - 1) = s^2 - 1. For s = n this is INTER_AREA, for 1 < s < n nearly so, and for s <= 1 it is bilinear sampling. Unlike an image
pyramid, this also holds for boxes that are turned or stretched. Where the stored images have the size of the views, n is 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from medssl.views.keyed_random import between
from medssl.views.operations import HorizontalFlip, ResizedCrop, Rotation, VerticalFlip

_TRIES = 10  # boxes that are drawn until one fits into the image, as in torchvision and albumentations
NUMBERS = 2 * _TRIES + 2  # random numbers of an operation: a crop needs the most
Frame = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True, slots=True)
class Resize:
    """The whole image becomes the view."""


Geometry = Resize | ResizedCrop | HorizontalFlip | VerticalFlip | Rotation


@dataclass(frozen=True, slots=True)
class _SamplePoints:
    """Positions of samples in pixels: `x` and `y` broadcast to [b, rows, columns]. `along_x` and `along_y`: the offset of a sample from the
    centre of its view pixel, in units of sqrt(s^2 - 1) image pixels. `coverage`: in [0, 1]. s and coverage are explained above."""

    x: Tensor
    y: Tensor
    along_x: Tensor
    along_y: Tensor
    coverage: Tensor | float = 1.0


def sample(
    images: Float32[Tensor, "b c h w"], operations: Sequence[tuple[Geometry, Float32[Tensor, "b numbers"]]], size: int
) -> Float32[Tensor, "b c rows columns"]:
    """The images after the operations. Each operation comes with its random numbers in [0, 1). Crops are resized to `size` pixels."""
    if not operations:
        return images
    steps, frame = [], (images.shape[2], images.shape[3])
    for operation, drawn in operations:
        steps.append((operation, drawn, frame))
        frame = (size, size) if isinstance(operation, Resize | ResizedCrop) else frame
    n = max(math.ceil(_longest_edge(operation, frame) / size) for operation, _, frame in steps)
    at = _sample_points(frame, n, images.device)
    for operation, drawn, frame in reversed(steps):
        at = _move_back(operation, at, drawn, frame, size)
    pixels = _bilinear(images, at)
    return F.avg_pool2d(pixels, n) if n > 1 else pixels


def crop_box(drawn: Float32[Tensor, "b numbers"], crop: ResizedCrop, frame: Frame) -> Float32[Tensor, "4 b"]:
    """Left, top, width and height of each crop, in whole pixels: the first of ten random boxes that fits into `frame`; where none fits, the
    largest box of an allowed aspect, in the centre."""
    (height, width), (low, high) = frame, crop.aspect
    area = height * width * between(drawn[:, :_TRIES], *crop.area)
    aspect = between(drawn[:, _TRIES : 2 * _TRIES], math.log(low), math.log(high)).exp()
    wide, tall = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    one_fits, first = fits.any(1, keepdim=True), fits.int().argmax(1, keepdim=True)
    wide = torch.where(one_fits, wide.gather(1, first), min(width, round(height * high)))
    tall = torch.where(one_fits, tall.gather(1, first), min(height, round(width / low)))
    x, y = torch.where(one_fits, drawn[:, 2 * _TRIES :], 0.5).chunk(2, dim=1)
    return torch.cat((((width - wide + 1) * x).floor(), ((height - tall + 1) * y).floor(), wide, tall), dim=1).T


def _longest_edge(operation: Geometry, frame: Frame) -> float:
    """The longest edge in pixels of a box that becomes a view (apart from the boxes in the centre); 1 for operations without a box."""
    match operation:
        case Resize():
            return max(frame)
        case ResizedCrop((_, area), (low, high)):
            return min(max(frame), math.sqrt(area * math.prod(frame) * max(high, 1 / low)))
        case _:
            return 1


def _sample_points(frame: Frame, n: int, device: torch.device) -> _SamplePoints:
    """The positions of the samples of a view of size `frame`: n x n samples for each pixel."""
    y, x = (torch.arange(edge, device=device).repeat_interleave(n).float() for edge in frame)
    along = torch.linspace(-0.5, 0.5, n, device=device) * math.sqrt((n - 1) / (n + 1))
    along_y, along_x = (along.repeat(edge) for edge in frame)
    return _SamplePoints(x, y[:, None], along_x, along_y[:, None])


def _move_back(operation: Geometry, at: _SamplePoints, drawn: Tensor, frame: Frame, size: int) -> _SamplePoints:
    """Maps the positions `at`, in the output of `operation`, back to positions in its input images, which have the size `frame`."""
    height, width = frame
    match operation:
        case HorizontalFlip(p):
            return replace(at, x=torch.where(drawn[:, :1, None] < p, width - 1 - at.x, at.x))
        case VerticalFlip(p):
            return replace(at, y=torch.where(drawn[:, :1, None] < p, height - 1 - at.y, at.y))
        case Rotation(degrees, p):
            applied, share = drawn[:, :2].T[..., None, None]
            angle = between(share, -math.radians(degrees), math.radians(degrees))
            return _rotate(at, torch.where(applied < p, angle, 0), frame)
        case ResizedCrop():
            left, top, wide, tall = crop_box(drawn, operation, frame)[..., None, None]
        case Resize():
            left, top, wide, tall = (at.x.new_full((), edge) for edge in (0, 0, width, height))
    return replace(at, x=_crop_axis(at.x, at.along_x, left, wide, size), y=_crop_axis(at.y, at.along_y, top, tall, size))


def _crop_axis(at: Tensor, along: Tensor, start: Tensor, side: Tensor, size: int) -> Tensor:
    """Maps positions along one axis of a view of `size` pixels to the image, where the crop's box begins at `start` and has `side`
    pixels."""
    scale = side / size
    inside = (at + 0.5) * scale - 0.5 + along * (scale**2 - 1).clamp(min=0).sqrt()
    return start + torch.minimum(inside.clamp(min=0), side - 1)


def _rotate(at: _SamplePoints, angle: Tensor, frame: Frame) -> _SamplePoints:
    """Maps positions back through a rotation about the centre of `frame` by `angle` in radians, counter-clockwise where positive."""
    (height, width), cos, sin = frame, angle.cos(), angle.sin()
    x, y = at.x - (width - 1) / 2, at.y - (height - 1) / 2
    x, y = cos * x - sin * y + (width - 1) / 2, sin * x + cos * y + (height - 1) / 2
    coverage = at.coverage * _share_inside(x, width) * _share_inside(y, height)
    return replace(at, x=x.clamp(0, width - 1), y=y.clamp(0, height - 1), coverage=coverage)


def _share_inside(at: Tensor, edge: int) -> Tensor:
    """The share in [0, 1] of a sample at the position `at` that is inside an image of `edge` pixels. Outside is black."""
    return torch.minimum(at + 1, edge - at).clamp(0, 1)


def _bilinear(images: Tensor, at: _SamplePoints) -> Tensor:
    height, width = images.shape[2:]
    x, y = torch.broadcast_tensors((2 * at.x + 1) / width - 1, (2 * at.y + 1) / height - 1)
    grid = torch.stack((x, y), dim=-1).expand(len(images), -1, -1, -1)
    pixels = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return pixels * at.coverage[:, None] if isinstance(at.coverage, Tensor) else pixels
