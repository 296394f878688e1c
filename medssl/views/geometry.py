"""Crops, flips and rotations of a batch: any sequence of them is one bilinear sampling of the images.

The positions of the view's pixels are mapped back through the operations, from the last to the first, to positions in the image. They are
those of `torch.nn.functional.grid_sample`: an image reaches from -1 to 1 along both axes, and the centre of pixel i of n is at
(2 i + 1) / n - 1. As in OpenCV, a crop shows no pixels outside its box, and a rotation fills up with black.

What depends on random numbers alone is computed on the host (`places`), so that few kernels are launched for a batch (`sample`).

Shrinking averages pixels like OpenCV's INTER_AREA, where image pixels are squares and a view pixel that is s of them wide is their mean. A
bilinear sample is the mean over a square of one pixel, so the mean of s samples, one pixel apart, equals INTER_AREA. Here the mean of n
samples is taken, with the same n for all views, at a distance d at which the variance of their positions is that of the box:
d^2 (n^2 - 1) = s^2 - 1. For s = n this is INTER_AREA, for 1 < s < n nearly so, and for s <= 1 it is bilinear sampling. Unlike an image
pyramid, this also holds for boxes that are turned or stretched. Where the stored images have the size of the views, n is 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from medssl.views.keyed_random import between
from medssl.views.operations import HorizontalFlip, ResizedCrop, Rotation, VerticalFlip

_TRIES = 10  # boxes that are drawn until one fits into the image, as in torchvision and albumentations
NUMBERS = 2 * _TRIES + 2  # random numbers of an operation: a crop needs the most
_FAR = 4.0  # outside of every image
Frame = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True, slots=True)
class Resize:
    """The whole image becomes the view."""


Geometry = Resize | ResizedCrop | HorizontalFlip | VerticalFlip | Rotation
Moves = Sequence[tuple[Geometry, Float32[Tensor, "b numbers"]]]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the samples of views come from. `frame`: of the view; `n`: samples for each pixel and axis; `kinds`: of the mappings, from the
    view back to the image. The first table has the positions of the samples' pixels, and for n > 1 their offsets (`along`), [1 or 2, 2,
    longest edge * n]. Each mapping p -> q has another table, [b, 5, 2]. In all of them x comes before y.

    "box":  p -> slope p + start + spread along, then at least `low` and at most `high`
    "turn": p -> of_x p_x + of_y p_y, whose sample is inside the image to the share middle - half |p| along each axis, from 0 to
            1; at most `limit` from the centre
    """

    frame: Frame
    n: int
    kinds: tuple[Literal["box", "turn"], ...]


def places(moves: Moves, frame: Frame, size: int) -> tuple[Places, list[Tensor]]:
    """Those of images of size `frame` after the operations, each with its random numbers in [0, 1), and their tables. Crops are resized to
    `size` pixels."""
    steps = []
    for operation, drawn in moves:
        steps.append((operation, drawn, frame))
        frame = (size, size) if isinstance(operation, Resize | ResizedCrop) else frame
    n = max(math.ceil(_longest_edge(operation, before) / size) for operation, _, before in steps)
    mirror = torch.ones(len(moves[0][1]), 1, 2)  # -1 along the axes of a mirror image for which there is no mapping yet
    kinds: list[Literal["box", "turn"]] = []
    tables: list[Tensor] = []
    for operation, drawn, before in reversed(steps):
        if isinstance(operation, HorizontalFlip | VerticalFlip):
            sign = _mirror(operation, drawn)
            if kinds:
                tables[-1] = _mirrored(kinds[-1], tables[-1], sign)
            else:
                mirror = mirror * sign
        elif isinstance(operation, Rotation):
            kinds.append("turn")
            tables.append(_turn(operation, drawn, before, mirror))
        else:
            kinds.append("box")
            tables.append(_box(operation, drawn, before, size, mirror))
        mirror = torch.ones_like(mirror) if kinds else mirror
    if not kinds:
        kinds, tables = ["box"], [torch.cat([mirror, *(torch.full_like(mirror, number) for number in (0, 0, -_FAR, _FAR))], dim=1)]
    return Places(frame, n, tuple(kinds)), [_pixels(frame, n), *tables]


def sample(images: Float32[Tensor, "b c h w"], at: Places, tables: Sequence[Tensor]) -> Float32[Tensor, "b c rows columns"]:
    """The views of the images at these places. `tables`: those that `places` returned with `at`, on the device of the images."""
    (height, width), n = (edge * at.n for edge in at.frame), at.n
    pixels, *along = tables[0][:, None]
    grid, inside = None, None  # the positions are `pixels` of columns and rows, until a rotation makes them a grid
    for number, (kind, table) in enumerate(zip(at.kinds, tables[1:], strict=True)):
        x, y = _lines(pixels, height, width) if grid is None else grid.split(1, dim=-1)
        if kind == "turn":
            of_x, of_y, middle, half, limit = table[:, :, None, None].unbind(1)
            grid = torch.addcmul(y * of_y, x, of_x)
            shares = torch.addcmul(middle, grid.abs(), half, value=-1).clamp(0, 1).prod(-1)
            inside = shares if inside is None else inside * shares
            if number + 1 < len(at.kinds):  # grid_sample does it, too
                grid = grid.clamp(-limit, limit)
        elif grid is None:
            pixels = _move(pixels, along, *table[..., None].unbind(1))
        else:
            offsets = [torch.cat(torch.broadcast_tensors(*_lines(each, height, width)), dim=-1) for each in along]
            grid = _move(grid, offsets, *table[:, :, None, None].unbind(1))
    if grid is None:
        grid = torch.cat(torch.broadcast_tensors(*_lines(pixels, height, width)), dim=-1)
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    views = views if inside is None else views * inside[:, None]
    return F.avg_pool2d(views, n) if n > 1 else views


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


def _pixels(frame: Frame, n: int) -> Float32[Tensor, "1_or_2 2 samples"]:
    """For each axis the positions of the pixels of n samples, and the samples' offsets in units of sqrt(s^2 - 1) image pixels."""
    index = torch.arange(max(frame) * n)
    edges = torch.tensor(frame[::-1])[:, None]
    p = (2 * (index // n) + 1) / edges - 1
    along = ((index % n) - (n - 1) / 2) / max(n - 1, 1) * math.sqrt((n - 1) / (n + 1))
    return torch.stack((p, along.expand_as(p))) if n > 1 else p[None]


def _mirror(operation: HorizontalFlip | VerticalFlip, drawn: Tensor) -> Float32[Tensor, "b 1 2"]:
    sign = torch.where(drawn[:, :1] < operation.p, -1.0, 1.0)
    axes = (sign, torch.ones_like(sign)) if isinstance(operation, HorizontalFlip) else (torch.ones_like(sign), sign)
    return torch.stack(axes, dim=-1)


def _mirrored(kind: str, table: Tensor, sign: Tensor) -> Tensor:
    """The table of a mapping and a mirror image after it."""
    if kind == "turn":
        return torch.cat((table[:, :2] * sign, table[:, 2:]), dim=1)
    low, high = table[:, 3:4], table[:, 4:5]
    return torch.cat((table[:, :2] * sign, table[:, 2:3], torch.where(sign < 0, -high, low), torch.where(sign < 0, -low, high)), dim=1)


def _turn(operation: Rotation, drawn: Tensor, frame: Frame, mirror: Tensor) -> Float32[Tensor, "b 5 2"]:
    """The table of a rotation about the centre of `frame`, counter-clockwise where the angle is positive, and a mirror image before it."""
    (height, width), degrees = frame, operation.degrees
    angle = torch.where(drawn[:, 0] < operation.p, between(drawn[:, 1], -math.radians(degrees), math.radians(degrees)), 0)
    cos, sin = angle.cos(), angle.sin()
    of_x, of_y = torch.stack((cos, sin * (width / height)), 1), torch.stack((-sin * (height / width), cos), 1)
    edges = torch.tensor([width, height]).expand_as(of_x)
    of_x, of_y = of_x * mirror[:, 0, :1], of_y * mirror[:, 0, 1:]
    return torch.stack((of_x, of_y, (edges + 1) / 2, edges / 2, 1 - 1 / edges), dim=1)


def _box(operation: Resize | ResizedCrop, drawn: Tensor, frame: Frame, size: int, mirror: Tensor) -> Float32[Tensor, "b 5 2"]:
    """The table of a box that is resized to `size` pixels, and a mirror image before it."""
    height, width = frame
    if isinstance(operation, Resize):
        box = torch.tensor([[0.0, 0.0, width, height]]).expand(len(mirror), -1)
    else:
        box = crop_box(drawn, operation, frame).T
    start, side, edges = box[:, None, :2], box[:, None, 2:], torch.tensor([width, height])
    spread = 2 / edges * ((side / size) ** 2 - 1).clamp(min=0).sqrt()
    low, high = (2 * start + 1) / edges - 1, (2 * (start + side) - 1) / edges - 1
    return torch.cat((side / edges * mirror, (2 * start + side) / edges - 1, spread, low, high), dim=1)


def _move(p: Tensor, along: Sequence[Tensor], slope: Tensor, start: Tensor, spread: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The positions after a box; `along`: one tensor, or none for one sample a pixel."""
    moved = torch.addcmul(start, slope, p)
    for offsets in along:
        moved = torch.addcmul(moved, spread, offsets)
    return moved.clamp(low, high)


def _lines(p: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Of positions [b, 2, samples] along both axes: those of columns [b, 1, w, 1] and of rows [b, h, 1, 1]."""
    return p[:, 0, None, :width, None], p[:, 1, :height, None, None]
