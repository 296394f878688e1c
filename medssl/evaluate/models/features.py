"""Features of stored images and volumes: one pass of a frozen network, in float32 (not TF32), over the rows that are needed and no
others."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from medssl.data.store import Windows
from medssl.errors import UserError
from medssl.nn.copies import Arriving, to_device
from medssl.nn.precision import full_float32
from medssl.train.memory import keep_freed_memory

PIXELS_EDGE, VOXELS_EDGE = 28, 8
Images = Shaped[np.ndarray, "n c *edges"] | Windows
_VOXELS = 2**22  # of a batch of volumes: 16 of 64 x 64 x 64, whose features at the first layers of a network fill some 500 MB


class Pixels(nn.Module):
    """No network at all: the image averaged down to 28 x 28, a volume to 8 x 8 x 8, and laid out as a row. The floor that every encoder has
    to beat."""

    def forward(self, images: Float[Tensor, "b c *edges"]) -> Float[Tensor, "b d"]:
        if images.ndim == 5:
            slices, rows, columns = (min(VOXELS_EDGE, edge) for edge in images.shape[2:])
            return functional.adaptive_avg_pool3d(images, (slices, rows, columns)).flatten(1)
        edge = min(PIXELS_EDGE, images.shape[-1])
        return functional.adaptive_avg_pool2d(images, edge).flatten(1)


@full_float32()
def extract(
    network: nn.Module,
    images: Images,
    rows: Int[np.ndarray, " m"],
    device: torch.device,
    batch_size: int = 256,
) -> Float[np.ndarray, "m d"]:
    """What `network` makes of `images[rows]` (uint8 or uint16, given to it as float32 in [0, 1]), float32, in evaluation mode. A batch of
    volumes has so few of them that they fit into the memory.

    The network is moved to `device`; which of its parts were in training mode is restored. Raises UserError for output that is not finite.
    """
    keep_freed_memory(device)
    modes = [(part, part.training) for part in network.modules()]
    network.to(device).eval()
    if images.ndim == 5:
        batch_size = max(1, min(batch_size, _VOXELS // math.prod(images.shape[1:])))
    white = float(np.iinfo(images.dtype).max)
    parts, waiting = [], None
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for start in range(0, len(rows), batch_size):
            stored = to_device(torch.from_numpy(images[rows[start : start + batch_size]]), device)
            arriving = Arriving(network(stored.float() / white).float())
            parts += [waiting.read().numpy()] if waiting is not None else []  # those of the batch before: the device has the next one now
            waiting = arriving
    parts += [waiting.read().numpy()] if waiting is not None else []
    for part, training in modes:
        part.training = training
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise UserError(
            "The encoder's features are not finite for some images: its training has diverged. Pretrain again with a lower train.lr."
        )
    return features
