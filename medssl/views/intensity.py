"""Changes of pixel values in a batch: functions of float32 images [b, c, h, w] in [0, 1]. What depends on an image's random numbers alone
is computed before, on the host, so that few kernels are launched.

Images of three channels are colours, in the order red, green, blue. Other images have no hue or saturation and are unchanged by them.
"""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

Images = Float32[Tensor, "b c h w"]
Numbers = Float32[Tensor, "b 1 1 1"]
Side = Float32[Tensor, "b 1"]


def blur_kernels(sigma: Float32[Tensor, "b 1"], largest: float, frame: tuple[int, int]) -> Float32[Tensor, "b taps"]:
    """The kernels of Gaussian blurs with standard deviations `sigma` in pixels, at most `largest`; 0 is no blur. They end at 3.5 standard
    deviations, as in Pillow and albumentations, and are never wider than the image, whose size is `frame`."""
    radius = min(int(3.5 * largest), *(edge - 1 for edge in frame))
    distance = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= 3.5 * sigma)
    return torch.where(sigma > 0, kernel / kernel.sum(dim=-1, keepdim=True), distance == 0)


def blur(x: Images, kernels: Float32[Tensor, "b taps"]) -> Images:
    """Each image blurred along both axes with its kernel. The image is mirrored at its border."""
    b, c, h, w = x.shape
    radius = kernels.shape[1] // 2
    kernel = kernels.repeat_interleave(c, dim=0, output_size=b * c)[:, None, None] if c > 1 else kernels.contiguous()[:, None, None]
    channels = F.pad(x, (radius,) * 4, mode="reflect").reshape(1, b * c, h + 2 * radius, w + 2 * radius)
    return F.conv2d(F.conv2d(channels, kernel, groups=b * c), kernel.transpose(2, 3), groups=b * c).reshape(x.shape)


def box(tall: Side, wide: Side, down: Side, right: Side, frame: tuple[int, int]) -> Float32[Tensor, "b 4"]:
    """The boxes of `tall` x `wide` pixels, at most the image, whose size is `frame`: for x and y the centre, and half the edge. `down`,
    `right`: the box's position, as shares in [0, 1) of all positions where it fits."""
    h, w = frame
    tall, wide = tall.clamp(max=h), wide.clamp(max=w)
    top, left = ((h - tall + 1) * down).floor(), ((w - wide + 1) * right).floor()
    return torch.cat((left + (wide - 1) / 2, top + (tall - 1) / 2, wide / 2, tall / 2), dim=1)


def cut_out(x: Images, boxes: Float32[Tensor, "b 4"]) -> Images:
    """The images with a black box each; one without an edge is none."""
    h, w = x.shape[2:]
    centre, half = boxes[..., None].split(2, dim=1)
    within = (torch.arange(max(h, w), device=x.device) - centre).abs() < half
    return x.masked_fill((within[:, 1, :h, None] & within[:, 0, None, :w])[:, None], 0)


def to_grey(channels: int) -> Float32[Tensor, "c c"]:
    """The matrix that turns colours into their luminance (ITU-R BT.601), on as many channels; other channels stay."""
    return torch.tensor([[0.299, 0.587, 0.114]]).expand(3, 3) if channels == 3 else torch.eye(channels)


def jitter_matrices(factors: Float32[Tensor, "b 3"], order: Int64[Tensor, "b 4"], channels: int) -> Float32[Tensor, "b parts 2 c c"]:
    """torchvision's ColorJitter as linear maps of the colours. `factors`: of brightness, contrast and saturation; `order`: the order of
    these and the hue, numbered 0 to 3.

    A factor f turns an image x into f x + (1 - f) y, where y is black for brightness, the mean of grey x for contrast, and grey x for
    saturation. Each part is a matrix for x, and one for the mean of x. Colours have six parts, and the hue changes after the third: a part
    that is on the other side of the hue for an image leaves it as it is. Others have four, and no hue and saturation.
    """
    place = (order == 3).int().argmax(dim=1, keepdim=True)  # of the hue
    if channels == 3:
        index, mean = torch.tensor([0, 1, 2, 1, 2, 3]), to_grey(3)
        counts = torch.where(torch.arange(6) < 3, index < place, index > place)
    else:
        index, mean = torch.arange(4), torch.full((channels, channels), 1 / channels)
        counts = order != 2
    change = order[:, index]
    factor = torch.where(counts & (change < 3), factors.gather(1, change.clamp(max=2)), 1)[..., None, None]
    of_x = factor * torch.eye(channels) + (1 - factor) * (change == 2)[..., None, None] * mean
    return torch.stack((of_x, (1 - factor) * (change == 1)[..., None, None] * mean), dim=2)


def colour_jitter(x: Images, matrices: Float32[Tensor, "b parts 2 c c"], turn: Numbers) -> Images:
    """The images after the maps of `jitter_matrices`, clipped after each, and a change of the hue by a share of the circle."""
    for number, (of_x, of_mean) in enumerate(part.unbind(1) for part in matrices.unbind(1)):
        if number == 3 and x.shape[1] == 3:
            x = hue(x, turn)
        colours = x.flatten(2)
        x = (of_x @ colours).add_(of_mean @ colours.mean(2, keepdim=True)).clamp_(0, 1).view_as(x)
    return x


def hue(x: Float32[Tensor, "b 3 h w"], turn: Numbers) -> Float32[Tensor, "b 3 h w"]:
    """The images with their hue changed by the share `turn` of the circle. The saturation and value of HSV are unchanged.

    A hue of h sixths, value v and chroma c (largest channel less smallest) is v - c f(5 + h), v - c f(3 + h), v - c f(1 + h) in red, green
    and blue, where f(k) = min(k, 4 - k), k modulo 6, f within [0, 1].
    """
    value, largest = x.max(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    base = torch.arange(0, 6, 2, device=x.device)[:, None, None]  # the hue of pure red, green and blue, in sixths
    sixths = torch.addcdiv(base.to(x.dtype), x.roll(-1, 1) - x.roll(-2, 1), chroma.clamp(min=1e-37)).gather(1, largest)
    k = ((5 - base) + 6 * turn + sixths) % 6
    return torch.addcmul(value, chroma, torch.minimum(k, 4 - k).clamp(0, 1), value=-1)
