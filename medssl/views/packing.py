"""Many small tensors of the host for the device, in one copy for which the host does not wait."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on `device`. On a GPU those of 8-byte numbers must come first, as numbers are read at multiples of their size."""
    if device.type != "cuda":
        return list(tensors)
    return unpack(pack(tensors).pin_memory().to(device, non_blocking=True), tensors)


def pack(tensors: Sequence[Tensor]) -> UInt8[Tensor, " bytes"]:
    """The numbers of all tensors, one after another."""
    return torch.cat([x.contiguous().flatten().view(torch.uint8) for x in tensors])


def unpack(packed: UInt8[Tensor, " bytes"], like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that were packed, as views of the same memory. `like`: tensors of their types and shapes."""
    parts = packed.split([x.numel() * x.element_size() for x in like])
    return [part.view(x.dtype).view(x.shape) for part, x in zip(parts, like, strict=True)]
