"""Many small tensors of the host for the device, in one copy for which the host does not wait."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on `device`. Those of 8-byte numbers come first, or the others have an even number of numbers: device memory is read at
    multiples of a number's size."""
    if device.type != "cuda":
        return list(tensors)
    as_bytes = [x.contiguous().flatten().view(torch.uint8) for x in tensors]
    packed = torch.cat(as_bytes).pin_memory().to(device, non_blocking=True)
    parts = packed.split([len(part) for part in as_bytes])
    return [part.view(x.dtype).view(x.shape) for part, x in zip(parts, tensors, strict=True)]
