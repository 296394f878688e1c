"""One batch over many devices: embeddings are gathered with gradient, and every device computes the loss of the whole batch.

So one device with 64 samples and two with 32 give the same loss, the same gradients and the same support set: the formulas of a method
see whole batches only, device after device, and know nothing of this.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def devices() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x: Tensor) -> Tensor:
    """[b, ...] of this device to [B, ...] of all of them, in the order of their ranks. Gradient flows to each device's own rows."""
    if devices() == 1:
        return x
    return _Gather.apply(x) if x.requires_grad else _all_gather(x)  # pyright: ignore[reportReturnType] - apply is not typed


def total(x: Tensor) -> Tensor:
    """The sum of x over the devices, with gradient."""
    return x if devices() == 1 else _Total.apply(x)  # pyright: ignore[reportReturnType]


def _all_gather(x: Tensor) -> Tensor:
    x = x.contiguous()
    parts = [torch.empty_like(x) for _ in range(devices())]
    dist.all_gather(parts, x)
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """Each device holds the whole loss, so the gradient of its own rows is known here without asking the others. It is multiplied by
    the number of devices, by which DistributedDataParallel divides the sum of the devices' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return _all_gather(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        own = slice(dist.get_rank() * ctx.rows, (dist.get_rank() + 1) * ctx.rows)
        return grads[0][own] * devices()


class _Total(torch.autograd.Function):
    """Each device's x enters the sums on all devices: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - torch hands it over
        return _all_reduce(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        return _all_reduce(grads[0])


def _all_reduce(x: Tensor) -> Tensor:
    x = x.clone()
    dist.all_reduce(x)
    return x
