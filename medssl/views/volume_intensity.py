"""Changes of the values of volumes: functions of float32 volumes [b, c, d, h, w] in [0, 1], for both executors.

A blur and thick slices are linear along each axis, so each is a product with a small matrix. Lengths are shares of the volume's edge along
each axis.
"""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from medssl.views import keyed_random
from medssl.views.keyed_random import between
from medssl.views.operations import BiasField, Blur, BrightnessContrast, Gamma, Noise, ThickSlices, VolumeIntensity

Volumes = Float32[Tensor, "b c d h w"]
_COEFFICIENTS = 64  # of a bias field: for degrees 0 to 3 along each axis


def apply(operation: VolumeIntensity, x: Volumes, drawn: Float32[Tensor, "b numbers"], keys: Int64[Tensor, " b"]) -> Volumes:
    """The volumes after `operation`. `drawn`: random numbers in [0, 1) for its parameters in their ranges; `keys`: those of the noise."""
    first, second = drawn[:, :2].T[..., None, None, None, None]
    match operation:
        case BrightnessContrast(brightness, contrast):
            return (x * between(second, 1 - contrast, 1 + contrast) + between(first, -brightness, brightness)).clamp(0, 1)
        case Gamma(exponent):
            return x ** between(first, *exponent)
        case Blur(sigma):
            return blur(x, between(drawn[:, 0], *sigma))
        case Noise(std):
            noise = keyed_random.normal(keys, x[0].numel()).reshape(x.shape)
            return (x + between(first, *std) * noise).clamp(0, 1)
        case BiasField(strength):
            coefficients = between(drawn[:, :_COEFFICIENTS], -strength, strength)
            return (x * bias_field(coefficients, (x.shape[2], x.shape[3], x.shape[4]))).clamp(0, 1)
        case ThickSlices(factor):
            return along(x, thick_slices(x.shape[2], factor, x.device)[None], 2)


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


def blur(x: Volumes, share: Float32[Tensor, " b"]) -> Volumes:
    """Gaussian blur with standard deviations of `share` of each edge. The volume is mirrored at its border."""
    for axis in (2, 3, 4):
        x = along(x, _gaussian(share * x.shape[axis], x.shape[axis]), axis)
    return x


def _gaussian(sigma: Float32[Tensor, " b"], edge: int) -> Float32[Tensor, "b edge edge"]:
    """The matrices of a blur along an edge. The kernel ends at 3.5 standard deviations, as in `intensity.blur`; what it has beyond the
    border is added to the mirrored voxels."""
    index, sigma = torch.arange(edge, device=sigma.device), sigma[:, None, None]
    to, at = index[:, None], index[None, :]

    def kernel(distance: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= 3.5 * sigma)

    before, after = kernel(to + at) * (at > 0), kernel(2 * (edge - 1) - to - at) * (at < edge - 1)
    whole = kernel(to - at) + before + after
    return whole / whole.sum(-1, keepdim=True)


def bias_field(coefficients: Float32[Tensor, "b 64"], shape: tuple[int, int, int]) -> Float32[Tensor, "b 1 d h w"]:
    """exp of the polynomial with these coefficients, in the order of the degrees along the three axes. Of all products of the three axes'
    polynomials, those of degree 1 to 3 count."""
    bases = [_legendre(edge, coefficients.device) for edge in shape]
    degree = torch.arange(4, device=coefficients.device)
    degree = degree[:, None, None] + degree[:, None] + degree
    used = coefficients.unflatten(1, (4, 4, 4)) * ((degree >= 1) & (degree <= 3))
    field = torch.einsum("bijk,xk->bijx", used, bases[2])
    field = torch.einsum("bijx,yj->biyx", field, bases[1])
    return (bases[0] @ field.flatten(2)).unflatten(2, shape[1:]).exp()[:, None]


def _legendre(edge: int, device: torch.device) -> Float32[Tensor, "edge 4"]:
    """Legendre's polynomials of degree 0 to 3 on `edge` voxels from -1 to 1."""
    x = torch.linspace(-1, 1, edge, device=device)
    return torch.stack((torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2), dim=1)


def thick_slices(depth: int, factor: int, device: torch.device) -> Float32[Tensor, "depth depth"]:
    """The matrix that takes the mean of each `factor` slices (of the last slices, of those that are there), and interpolates back."""
    index, thick = torch.arange(depth, device=device), -(-depth // factor)
    means = (index // factor == torch.arange(thick, device=device)[:, None]).float()
    back = hat((((index + 0.5) / factor) - 0.5).clamp(0, thick - 1)[None], thick)[0]
    return back @ (means / means.sum(1, keepdim=True))
