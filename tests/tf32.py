"""A GPU whose convolutions are TF32, emulated on the CPU: the fraction of what is multiplied is rounded to 10 of 23 bits."""

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class _OnGpu(nn.Conv2d):
    """A convolution of TF32, until it is moved to the CPU."""

    def _apply(self, fn, recurse=True):
        self.__class__ = nn.Conv2d  # pyright: ignore[reportAttributeAccessIssue]
        return nn.Conv2d._apply(self, fn, recurse)

    def forward(self, input):
        return self._conv_forward(_rounded(input), _rounded(self.weight), self.bias)


def on_gpu(network: Network) -> Network:
    """The network as if it were on a GPU."""
    for part in network.modules():
        if type(part) is nn.Conv2d:
            part.__class__ = _OnGpu
    return network


def is_on_gpu(network: nn.Module) -> bool:
    return any(isinstance(part, _OnGpu) for part in network.modules())


def _rounded(x: torch.Tensor) -> torch.Tensor:
    return ((x.detach().contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
