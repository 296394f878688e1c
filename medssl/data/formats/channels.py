"""The shape of the pixels that every reader returns: [C, H, W], with one channel where all colours are grey."""

import numpy as np
from jaxtyping import Float32, Shaped


def channels_first(pixels: Shaped[np.ndarray, "h w *colours"]) -> Float32[np.ndarray, "c h w"]:
    """Pixels [H, W] or [H, W, 3] as a new float32 array [1, H, W] or [3, H, W]. A grey image that is stored as RGB becomes [1, H, W]."""
    # some rows are compared first: most colour images then need no comparison of all rows
    if pixels.ndim == 3 and all((rows[..., :1] == rows).all() for rows in (pixels[:: len(pixels) // 8 or 1], pixels)):
        pixels = pixels[..., 0]
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.array(pixels, np.float32, order="C")
