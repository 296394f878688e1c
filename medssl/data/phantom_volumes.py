"""Drawing synthetic volumes: a sphere, a cube or an ellipsoid in noise and a smooth bias field, as an MR scanner has one.

Only the form tells the label: each shape has exactly as many voxels as it is given, and its place, turn and brightness follow the same
rules for all shapes. So neither a threshold nor a count of bright voxels can tell them apart, but a look at the form can.

Coordinates run from -1 to 1 along each axis. All randomness is a function of the keys.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float32

Shape = Literal["sphere", "cube", "ellipsoid"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

_SHARE = 0.008, 0.014  # of the volume's voxels
_LONG = 3.0  # the longest half axis of an ellipsoid, in radii of the sphere with the same volume; the other two are equal
_TISSUE, _CONTRAST = (0.33, 0.37), (0.33, 0.37)
_NOISE = 0.05
_BIAS = 0.06  # the standard deviation of the field's coefficients


def voxel_count(twins_key: Sequence[int], size: int) -> int:
    """How many of the `size`^3 voxels a shape has. Volumes with the same key, one of each shape, have the same number."""
    return round(float(np.random.default_rng([*twins_key, 0]).uniform(*_SHARE)) * size**3)


def draw_volume(key: Sequence[int], shape: Shape, size: int, voxels: int) -> Float32[np.ndarray, "size size size"]:
    """A cube with one shape of exactly `voxels` voxels, in [0, 1]. `key` decides its place, turn and brightness, noise and bias field."""
    draw = np.random.default_rng([*key, 1])
    line = np.linspace(-1, 1, size, dtype=np.float32)
    axes = np.stack(np.meshgrid(line, line, line, indexing="ij"))
    radius = (6 * voxels / size**3 / np.pi) ** (1 / 3)
    reach = max(0.0, 1 - _LONG * radius)  # so far from the middle even an ellipsoid fits, whichever way it is turned
    turned = np.einsum("ij,jdhw->idhw", _random_turn(draw), axes - draw.uniform(-reach, reach, (3, 1, 1, 1)).astype(np.float32))
    inside = np.zeros(size**3, bool)
    inside[np.argpartition(_distance(turned, shape).ravel(), voxels)[:voxels]] = True
    tissue, contrast = draw.uniform(*_TISSUE), draw.uniform(*_CONTRAST)
    image = tissue + contrast * inside.reshape(size, size, size).astype(np.float32)
    image = image * _bias_field(line, draw) + _NOISE * draw.standard_normal(image.shape, np.float32)
    return image.clip(0, 1).astype(np.float32)


def _distance(points: Float[np.ndarray, "3 d h w"], shape: Shape) -> Float[np.ndarray, "d h w"]:
    """A number that is the same all over the surface of the shape around the origin, and smaller inside."""
    if shape == "cube":
        return np.abs(points).max(axis=0)
    stretch = _LONG if shape == "ellipsoid" else 1.0
    return (points[0] / stretch) ** 2 + stretch * (points[1] ** 2 + points[2] ** 2)


def _random_turn(draw: np.random.Generator) -> Float32[np.ndarray, "3 3"]:
    """A rotation, all equally likely: the rotation of a unit quaternion whose direction is uniform (Shoemake, Graphics Gems III, 1992)."""
    w, x, y, z = (q := draw.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        np.float32,
    )


def _bias_field(line: Float32[np.ndarray, " n"], draw: np.random.Generator) -> Float32[np.ndarray, "n n n"]:
    """exp of a polynomial of the second degree with random coefficients, near 1."""
    linear, square = draw.normal(0, _BIAS, (2, 3)).astype(np.float32)
    along = [linear[axis] * line + square[axis] * (line**2 - 1 / 3) for axis in range(3)]
    return np.exp(along[0][:, None, None] + along[1][None, :, None] + along[2][None, None, :])
