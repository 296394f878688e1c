"""The shape every reader gives its pixels: [C, H, W], one channel where the colours say nothing."""

import numpy as np
from jaxtyping import Float32, Shaped


def channels_first(pixels: Shaped[np.ndarray, "h w *colours"]) -> Float32[np.ndarray, "c h w"]:
    """[H, W] or [H, W, 3] as new float32 [1, H, W] or [3, H, W]; a grey picture that is stored as RGB has one channel."""
    if pixels.ndim == 3 and all((some[..., :1] == some).all() for some in (pixels[:: len(pixels) // 8 or 1], pixels)):  # a glance first
        pixels = pixels[..., 0]
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.array(pixels, np.float32, order="C")
