"""Random numbers as a function of (seed, step, purpose): nothing to save, nothing to restore."""

import hashlib

import torch
from torch import Tensor


def generator(*key: int | str) -> torch.Generator:
    """A torch generator whose numbers depend on nothing but the key. It draws on the CPU, as those of GPUs give other numbers: so a run
    goes on alike on another device. `copy_to` brings the numbers there."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def copy_to(x: Tensor, device: torch.device) -> Tensor:
    """x, from the CPU, on the device. The host does not wait for a GPU: the copy begins in page-locked memory."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x
