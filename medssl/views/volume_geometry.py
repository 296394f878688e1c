"""Where the views of volumes come from: the boxes of a pair of views, one angle in the axial plane, and mirror images.

Both executors take their numbers from here, so a view is the same on the CPU and on a GPU, up to the interpolation. A box, a rotation and
mirror images together are one interpolation. Positions are in voxels: the centre of voxel i is at i. A box that is not turned shows nothing
from outside of it, as in OpenCV.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from medssl.views import keyed_random
from medssl.views.keyed_random import between
from medssl.views.operations import AXES, AxialRotation, AxisFlip, BoxCrop, VolumeOperation

_TRIES = 10  # places of both boxes that are drawn until they have enough in common
_PAIR = 2**20  # more than there are views: the key of a pair of views is that of no view
NUMBERS = 8 + 6 * _TRIES  # random numbers of an operation: a pair of crops needs the most
_NOISE = 2**10  # more than these: the key of the noise is that of no other number


@dataclass(frozen=True, slots=True)
class Places:
    """Of each view: the first voxel and the number of voxels of its box along the three axes, the angle in radians (counter-clockwise in
    the picture, 0 where there is no rotation), and the axes along which the view is mirrored."""

    start: Float32[Tensor, "b 3"]
    side: Float32[Tensor, "b 3"]
    angle: Float32[Tensor, " b"]
    mirrored: Bool[Tensor, "b 3"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The random numbers in [0, 1) of each operation of each view, those that both views of a pair share, and the keys of the
    operations' noise."""

    own: Float32[Tensor, "b operations numbers"]
    pair: Float32[Tensor, "b operations numbers"]
    keys: Int64[Tensor, "b operations"]


def draw_numbers(operations: int, rows: Int64[Tensor, " b"], step: int, seed: int, view: int) -> Drawn:
    """The numbers of view `view`. Views 0 and 1 (2 and 3, ...) are a pair."""
    index = torch.arange(operations, device=rows.device)
    of_view = keyed_random.fold_in(keyed_random.keys(seed, step, rows, view)[:, None], index)
    of_pair = keyed_random.fold_in(keyed_random.keys(seed, step, rows, _PAIR + view // 2)[:, None], index)
    own, pair = keyed_random.uniform(of_view, NUMBERS), keyed_random.uniform(of_pair, NUMBERS)
    return Drawn(own, pair, keyed_random.fold_in(of_view, _NOISE))


def places(operations: Sequence[VolumeOperation], drawn: Drawn, shape: tuple[int, int, int], view: int) -> Places:
    """The places of view `view` of volumes with `shape` voxels. The boxes of a pair are drawn together."""
    zero = torch.zeros(len(drawn.own), device=drawn.own.device)
    side = torch.stack([zero + edge for edge in shape], dim=1)
    start, angle, mirrored = torch.zeros_like(side), zero, torch.zeros_like(side, dtype=torch.bool)
    for number, operation in enumerate(operations):
        match operation:
            case BoxCrop():
                starts, sides = draw_boxes(operation, drawn.pair[:, number], shape)
                start, side = starts[:, view % 2], sides[:, view % 2]
            case AxialRotation(degrees, p):
                applied, share = drawn.own[:, number, :2].unbind(1)
                angle = torch.where(applied < p, between(share, -math.radians(degrees), math.radians(degrees)), zero)
            case AxisFlip(axis, p):
                along = torch.arange(3, device=side.device) == AXES.index(axis)
                mirrored = mirrored ^ (along & (drawn.own[:, number, :1] < p))
            case _:
                pass
    return Places(start, side, angle, mirrored)


def draw_boxes(
    crop: BoxCrop, drawn: Float32[Tensor, "b numbers"], shape: tuple[int, int, int]
) -> tuple[Float32[Tensor, "b 2 3"], Float32[Tensor, "b 2 3"]]:
    """Start and side of the two boxes of each pair, in whole voxels. `drawn`: random numbers in [0, 1).

    An edge has the share s ** w of the volume's edge, where s is the box's share of the volume, and the weights w of the three edges sum to
    1. Of ten random places of both boxes the first is taken at which they have enough in common; if there is none, one box moves until they
    lie within each other along each axis.
    """
    share = between(drawn[:, :2], *crop.volume)
    weight = between(drawn[:, 2:8], 1 - crop.stretch, 1 + crop.stretch).unflatten(1, (2, 3))
    edge_share = share[..., None] ** (weight / weight.sum(-1, keepdim=True))
    side = torch.stack([(edge_share[..., i] * edge).round().clamp(1, edge) for i, edge in enumerate(shape)], dim=-1)
    room = torch.stack([edge - side[..., i] for i, edge in enumerate(shape)], dim=-1)
    places = drawn[:, 8:NUMBERS].unflatten(1, (_TRIES, 2, 3))
    start = ((room + 1)[:, None] * places).floor()
    fits = overlap(start, side[:, None]) >= crop.min_overlap
    first, second = start.gather(1, fits.int().argmax(1)[:, None, None, None].expand(-1, 1, 2, 3))[:, 0].unbind(1)
    slack = side[:, 0] - side[:, 1]
    inside = second.clamp(first + slack.clamp(max=0), first + slack.clamp(min=0)).clamp(min=0).minimum(room[:, 1])
    return torch.stack((first, torch.where(fits.any(1, keepdim=True), second, inside)), dim=1), side


def overlap(start: Float32[Tensor, "*b 2 3"], side: Float32[Tensor, "*a 2 3"]) -> Tensor:
    """The voxels that two boxes have in common, as a share of the smaller box."""
    begin, end = start.amax(-2), (start + side).amin(-2)
    common = (end - begin).clamp(min=0).double().prod(-1)  # 1024 ** 3 is too large for float32
    return common / side.double().prod(-1).amin(-1)


def sample_points(of: Places, axis: int, edge: int) -> Float32[Tensor, "b edge"]:
    """The positions of the `edge` voxels of a view along one axis of the volume, before the rotation; within the box where the view is not
    turned, and always within it from head to feet."""
    start, side, mirrored = (each[:, axis, None] for each in (of.start, of.side, of.mirrored))
    index = torch.arange(edge, device=start.device)
    index = torch.where(mirrored, edge - 1 - index, index)
    inside = (index + 0.5) * (side / edge) - 0.5
    held = torch.minimum(inside.clamp(min=0), side - 1)
    return start + (held if axis == 0 else torch.where(of.angle[:, None] == 0, held, inside))


def slice_lines(of: Places, y: Float32[Tensor, "b h"], x: Float32[Tensor, "b w"], frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The positions after the rotation about the centre of the box in the axial plane, as `torch.nn.functional.grid_sample` counts them in
    slices of size `frame`: the sums of one part for each row [b, h, 1, 2] and one for each column [b, 1, w, 2]."""
    middle = of.start[:, 1:] + (of.side[:, 1:] - 1) / 2
    down, right = y - middle[:, :1], x - middle[:, 1:]
    cos, sin = of.angle.cos()[:, None], of.angle.sin()[:, None]
    pixels = torch.tensor(frame[::-1]) / 2
    rows = torch.stack((middle[:, 1:] - sin * down, middle[:, :1] + cos * down), dim=-1) + 0.5
    columns = torch.stack((cos * right, sin * right), dim=-1)
    return (rows / pixels - 1)[:, :, None], (columns / pixels)[:, None]
