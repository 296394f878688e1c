"""Random numbers as a function of (seed, step, purpose): nothing to save, nothing to restore."""

import hashlib

import torch


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A torch generator on `device` whose numbers depend on nothing but the key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
