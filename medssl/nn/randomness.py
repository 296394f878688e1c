"""Random numbers as a function of (seed, step, purpose): nothing to save, nothing to restore."""

import hashlib

import torch


def generator(*key: int | str) -> torch.Generator:
    """A torch generator whose numbers depend on nothing but the key. It draws on the CPU, as those of GPUs give other numbers: so a run
    goes on alike on another device. `copies.to_device` brings the numbers there."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
