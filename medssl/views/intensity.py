"""Changes of a batch's pixels: functions of float32 images [b, c, h, w] in [0, 1] and of one number for each image, [b, 1, 1, 1].

Images of three channels are colours, in the order red, green, blue. On others hue and saturation mean nothing and stay.
"""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

Images = Float32[Tensor, "b c h w"]
Numbers = Float32[Tensor, "b 1 1 1"]


def blur(x: Images, sigma: Numbers, largest: float) -> Images:
    """Gaussian blur with standard deviations of `sigma` pixels, none of them above `largest`; the image is mirrored at its border.

    The kernel ends at 3.5 standard deviations as in Pillow and albumentations, and at the image's edge.
    """
    b, c, h, w = x.shape
    radius = min(int(3.5 * largest), h - 1, w - 1)
    distance = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= 3.5 * sigma)
    kernel = (kernel / kernel.sum(dim=-1, keepdim=True)).repeat_interleave(c, dim=0)
    channels = F.pad(x, (radius,) * 4, mode="reflect").reshape(1, b * c, h + 2 * radius, w + 2 * radius)
    return F.conv2d(F.conv2d(channels, kernel, groups=b * c), kernel.transpose(2, 3), groups=b * c).reshape(x.shape)


def cut_out(x: Images, tall: Numbers, wide: Numbers, down: Numbers, right: Numbers) -> Images:
    """Black in a box `tall` and `wide` pixels large, at most the image; `down` and `right` say where, as shares in [0, 1) of the room."""
    h, w = x.shape[2:]
    tall, wide = tall.clamp(max=h), wide.clamp(max=w)
    below = torch.arange(h, device=x.device)[:, None] - ((h - tall + 1) * down).floor()
    beside = torch.arange(w, device=x.device) - ((w - wide + 1) * right).floor()
    return torch.where((below >= 0) & (below < tall) & (beside >= 0) & (beside < wide), 0, x)


def grey(x: Images) -> Float32[Tensor, "b one h w"]:
    """The brightness of colours (ITU-R BT.601); x itself where there are none."""
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:] if x.shape[1] == 3 else x


def colour_jitter(x: Images, factors: Float32[Tensor, "b 3 1 1"], turn: Numbers, order: Int64[Tensor, "b 4 1 1"]) -> Images:
    """torchvision's ColorJitter: `factors` for brightness, contrast and saturation, and the hue turned by `turn` of the circle.

    `order`: these four, numbered from 0, as they follow each other. A factor f makes f x + (1 - f) y of an image x, y being black, the mean
    of x in grey, or x in grey.
    """
    for kind in order.split(1, dim=1):
        factor, shown = factors.gather(1, kind.clamp(max=2)), grey(x)
        other = torch.where(kind == 1, shown.mean((1, 2, 3), keepdim=True), torch.where(kind == 2, shown, 0))
        mixed = (factor * x + (1 - factor) * other).clamp(0, 1)
        x = torch.where(kind == 3, hue(x, turn), mixed) if x.shape[1] == 3 else torch.where(kind == 3, x, mixed)
    return x


def hue(x: Float32[Tensor, "b 3 h w"], turn: Numbers) -> Float32[Tensor, "b 3 h w"]:
    """Hues turned by `turn` of the circle; saturation and value in the sense of HSV stay.

    A hue of h sixths, value v and chroma c (largest channel less smallest) is v - c f(5 + h), v - c f(3 + h), v - c f(1 + h) in red, green
    and blue, where f(k) = min(k, 4 - k), k modulo 6, f within [0, 1].
    """
    red, green, blue = x.split(1, dim=1)
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    c = torch.where(chroma > 0, chroma, 1)
    sixths = torch.where(value == red, (green - blue) / c, torch.where(value == green, 2 + (blue - red) / c, 4 + (red - green) / c))
    k = (torch.cat([n + sixths for n in (5, 3, 1)], dim=1) + 6 * turn) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
