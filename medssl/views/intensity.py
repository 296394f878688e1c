"""Changes of pixel values in a batch: functions of float32 images [b, c, h, w] in [0, 1], with one parameter for each image, [b, 1, 1, 1].

Images of three channels are colours, in the order red, green, blue. Other images have no hue or saturation and are unchanged by them.
"""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

Images = Float32[Tensor, "b c h w"]
Numbers = Float32[Tensor, "b 1 1 1"]


def blur(x: Images, sigma: Numbers, largest: float) -> Images:
    """Gaussian blur with standard deviations `sigma` in pixels, at most `largest`. The image is mirrored at its border.

    The kernel ends at 3.5 standard deviations, as in Pillow and albumentations, and is never wider than the image.
    """
    b, c, h, w = x.shape
    radius = min(int(3.5 * largest), h - 1, w - 1)
    distance = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= 3.5 * sigma)
    kernel = (kernel / kernel.sum(dim=-1, keepdim=True)).repeat_interleave(c, dim=0)
    channels = F.pad(x, (radius,) * 4, mode="reflect").reshape(1, b * c, h + 2 * radius, w + 2 * radius)
    return F.conv2d(F.conv2d(channels, kernel, groups=b * c), kernel.transpose(2, 3), groups=b * c).reshape(x.shape)


def cut_out(x: Images, tall: Numbers, wide: Numbers, down: Numbers, right: Numbers) -> Images:
    """The images with a black box of `tall` x `wide` pixels, at most the image. `down`, `right`: the box's position, as shares in [0, 1) of
    all positions where it fits."""
    h, w = x.shape[2:]
    tall, wide = tall.clamp(max=h), wide.clamp(max=w)
    below = torch.arange(h, device=x.device)[:, None] - ((h - tall + 1) * down).floor()
    beside = torch.arange(w, device=x.device) - ((w - wide + 1) * right).floor()
    return torch.where((below >= 0) & (below < tall) & (beside >= 0) & (beside < wide), 0, x)


def grey(x: Images) -> Float32[Tensor, "b one h w"]:
    """The luminance of colours (ITU-R BT.601); images of other channels unchanged."""
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:] if x.shape[1] == 3 else x


def colour_jitter(x: Images, factors: Float32[Tensor, "b 3 1 1"], turn: Numbers, order: Int64[Tensor, "b 4 1 1"]) -> Images:
    """torchvision's ColorJitter. `factors`: of brightness, contrast and saturation; `turn`: the change of the hue as a share of the circle.

    `order`: the order of these four changes, numbered 0 to 3. A factor f turns an image x into f x + (1 - f) y, where y is black for
    brightness, the mean of grey x for contrast, and grey x for saturation.
    """
    for change in order.split(1, dim=1):
        factor, grey_x = factors.gather(1, change.clamp(max=2)), grey(x)
        other = torch.where(change == 1, grey_x.mean((1, 2, 3), keepdim=True), torch.where(change == 2, grey_x, 0))
        mixed = (factor * x + (1 - factor) * other).clamp(0, 1)
        x = torch.where(change == 3, hue(x, turn), mixed) if x.shape[1] == 3 else torch.where(change == 3, x, mixed)
    return x


def hue(x: Float32[Tensor, "b 3 h w"], turn: Numbers) -> Float32[Tensor, "b 3 h w"]:
    """The images with their hue changed by the share `turn` of the circle. The saturation and value of HSV are unchanged.

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
