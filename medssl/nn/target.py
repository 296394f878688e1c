"""The target network: a copy whose weights follow the online network's as an exponential moving average (BYOL, Grill et al. 2020)."""

import copy
import math

import torch
from torch import nn


def target_of(online: nn.Module) -> nn.Module:
    """A copy that takes no gradient."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def update_target(target: nn.Module, online: nn.Module, m: float) -> None:
    """theta' <- m theta' + (1 - m) theta for every parameter. Buffers (running statistics of batch normalisation) are the target's own:
    in training it normalises with its batch, as the online network does."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - m)


def momentum_at(progress: float, start: float) -> float:
    """m = 1 - (1 - start) (cos(pi progress) + 1) / 2: from `start` to 1 over the training (BYOL, section 3.3). `progress` in [0, 1]."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
