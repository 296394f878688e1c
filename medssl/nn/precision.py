"""What float32 means on a GPU: float32, and not TF32.

Convolutions of float32 are TF32 by torch's default on GPUs from Ampere on: numbers with 10 of 23 bits, and features that differ from those
of a CPU by 1e-3 of their size. So a training in float32 and the features of an encoder switch it off. Under autocast the convolutions are
bfloat16 anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, products of matrices and convolutions of float32 numbers are computed in float32. Also a decorator."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
