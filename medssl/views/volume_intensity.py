"""Changes of the values of volumes: functions of float32 volumes [b, c, d, h, w] in [0, 1], for both executors.

The host makes the numbers of an operation (`tables`), and the device applies them (`apply`), so few kernels are launched. A blur and thick
slices are linear along each axis, so each is a product with a small matrix. Lengths are shares of the volume's edge along each axis.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from torch import Tensor
from torch.nn import functional as F

from medssl.views import keyed_random
from medssl.views.keyed_random import between
from medssl.views.operations import BiasField, Blur, BrightnessContrast, Gamma, Noise, ThickSlices, VolumeIntensity

Volumes = Float32[Tensor, "b c d h w"]
_COEFFICIENTS = 64  # of a bias field: for degrees 0 to 3 along each axis


def tables(operation: VolumeIntensity, drawn: Float32[Tensor, "b numbers"], shape: tuple[int, int, int]) -> list[Tensor]:
    """What `apply` needs on the device for volumes of this `shape`. `drawn`: random numbers in [0, 1); by the first one the operation is
    applied with its probability, and otherwise its numbers are those that change nothing."""
    applied, first, second = drawn[:, :3].split(1, dim=1)
    applied = applied < operation.p
    match operation:
        case BrightnessContrast(brightness, contrast):
            offset, gain = between(first, -brightness, brightness), between(second, 1 - contrast, 1 + contrast)
            return [torch.where(applied, offset, 0), torch.where(applied, gain, 1)]
        case Gamma(exponent):
            return [torch.where(applied, between(first, *exponent), 1)]
        case Blur(sigma):
            share = torch.where(applied, between(first, *sigma), 0)
            return [table for edge in sorted(set(shape)) for table in (_gaussian(share * edge, edge), torch.tensor(_mirrored(edge)))]
        case Noise(std):
            return [torch.where(applied, between(first, *std), 0)]
        case BiasField(strength):
            coefficients = between(drawn[:, 1 : 1 + _COEFFICIENTS], -strength, strength)
            return [torch.where(applied, coefficients, 0) * _used_degrees(), *(_legendre(edge) for edge in shape)]
        case ThickSlices(factor):
            return [applied[..., None].float(), torch.eye(shape[0])[None], thick_slices(shape[0], factor)[None]]


def apply(operation: VolumeIntensity, x: Volumes, of: Sequence[Tensor], keys: Int64[Tensor, " b"]) -> Volumes:
    """The volumes after `operation`. `of`: its `tables`, on the device of the volumes; `keys`: those of its noise."""
    match operation:
        case BrightnessContrast():
            offset, gain = (table[..., None, None, None] for table in of)
            return torch.addcmul(offset, x, gain).clamp_(0, 1)
        case Gamma():
            return x ** of[0][..., None, None, None]
        case Blur():
            return _blur(x, of)
        case Noise():
            noise = keyed_random.normal(keys, x[0].numel()).reshape(x.shape)
            return torch.addcmul(x, noise, of[0][..., None, None, None]).clamp_(0, 1)
        case BiasField():
            return (x * _bias_field(*of)).clamp_(0, 1)
        case ThickSlices():
            applied, same, thick = of
            return along(x, same.lerp(thick, applied), 2)


def along(x: Volumes, matrices: Float32[Tensor, "b new old"], axis: int) -> Volumes:
    """The product of the matrices with each line of voxels along `axis` (2, 3 or 4)."""
    match axis:
        case 2:
            return (matrices[:, None] @ x.flatten(3)).unflatten(3, x.shape[3:])
        case 3:
            return matrices[:, None, None] @ x
        case _:
            return x @ matrices[:, None, None].transpose(-1, -2)


def hat(positions: Float32[Tensor, "b new"], edge: int) -> Float32[Tensor, "b new edge"]:
    """The matrices of a linear interpolation at `positions` within 0 and `edge` - 1."""
    distance = positions[..., None] - torch.arange(edge, device=positions.device)
    return (1 - distance.abs()).clamp(min=0)


def _blur(x: Volumes, of: Sequence[Tensor]) -> Volumes:
    """Gaussian blur. `of`: kernel and places (`_gaussian`, `_mirrored`) for each length of an edge, the shortest one first."""
    matrices = {}
    for edge, kernel, places in zip(sorted(set(x.shape[2:])), of[::2], of[1::2], strict=True):
        whole = kernel.index_select(1, places).unflatten(1, (3, edge, edge)).sum(1)
        matrices[edge] = whole / whole.sum(-1, keepdim=True)
    for axis in (2, 3, 4):
        x = along(x, matrices[x.shape[axis]], axis)
    return x


def _gaussian(sigma: Float32[Tensor, "b 1"], edge: int) -> Float32[Tensor, "b distances"]:
    """The kernel at the distances 0 to 2 * `edge` - 2 in voxels, and a zero behind them. It ends at 3.5 standard deviations, as in
    `intensity.blur`; with a standard deviation of 0 it is 1 at the distance 0."""
    distance = torch.arange(2 * edge - 1) / sigma.clamp(min=1e-6)
    return F.pad(torch.exp(-0.5 * distance**2) * (distance <= 3.5), (0, 1))


@cache
def _mirrored(edge: int) -> Int32[np.ndarray, " places"]:
    """Where the kernel has the weight of each voxel of a line (columns) in each voxel of the blurred line (rows), [3, edge, edge]: of the
    voxel itself, and of its mirror images before and behind the line. The voxels of the border have no image there, and the zero."""
    index, nothing = np.arange(edge, dtype=np.int32), 2 * edge - 1
    to, at = index[:, None], index[None, :]
    before, behind = np.where(at > 0, to + at, nothing), np.where(at < edge - 1, 2 * (edge - 1) - to - at, nothing)
    return np.stack((abs(to - at), before, behind)).ravel().astype(np.int32)


def _bias_field(
    coefficients: Float32[Tensor, "b 64"], deep: Float32[Tensor, "d 4"], tall: Float32[Tensor, "h 4"], wide: Float32[Tensor, "w 4"]
) -> Float32[Tensor, "b 1 d h w"]:
    """exp of the polynomial with these coefficients, in the order of the degrees along the three axes, and with these polynomials along
    each axis."""
    field = tall @ (coefficients.unflatten(1, (4, 4, 4)) @ wide.T)
    return (deep @ field.flatten(2)).unflatten(2, field.shape[2:]).exp()[:, None]


def _used_degrees() -> Float32[Tensor, " 64"]:
    """1 for the products of the three axes' polynomials that have degree 1 to 3."""
    one = torch.arange(4)
    degree = one[:, None, None] + one[:, None] + one
    return ((degree >= 1) & (degree <= 3)).float().flatten()


def _legendre(edge: int) -> Float32[Tensor, "edge 4"]:
    """Legendre's polynomials of degree 0 to 3 on `edge` voxels from -1 to 1."""
    x = torch.linspace(-1, 1, edge)
    return torch.stack((torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2), dim=1)


def thick_slices(depth: int, factor: int) -> Float32[Tensor, "depth depth"]:
    """The matrix that takes the mean of each `factor` slices (of the last slices, of those that are there), and interpolates back."""
    index, thick = torch.arange(depth), -(-depth // factor)
    means = (index // factor == torch.arange(thick)[:, None]).float()
    back = hat((((index + 0.5) / factor) - 0.5).clamp(0, thick - 1)[None], thick)[0]
    return back @ (means / means.sum(1, keepdim=True))
