"""In which numbers a training computes: bfloat16 where that is right and faster, and float32 elsewhere."""

import time
from functools import cache

import torch
from torch.nn import functional

from medssl.errors import UserError
from medssl.types import Size

_BFLOAT16_SINCE = (8, 0)  # compute capability
_ONE_PIXEL_MAPS = 16  # pixels of an image of which the last level of a network, a 32nd, sees one pixel before its stride
_ROUNDS = 5
_CLEARLY_FASTER = 0.8  # of the time in float32


def choose_precision(name: str, device: torch.device, view: Size = 224, before: str = "") -> torch.dtype | None:
    """The dtype of autocast, None for float32. "auto" is bfloat16 on GPUs from compute capability 8.0 (Ampere) on, as older ones only
    imitate it, and on CPUs that are faster in it (`bfloat16_is_faster`). `view`: the size of the smallest one. Whole volumes and images of
    at most 16 pixels are float32 on CPUs, where gradients of convolutions in three dimensions, and of maps of one pixel, are wrong in
    bfloat16 (docs/decisions.md). `before`: the precision of the checkpoint of a run that goes on on a CPU. It is kept where the CPU has it:
    what is measured may differ on another day. Raises UserError for "bf16" on older GPUs, and for such views on CPUs."""
    if name == "fp32":
        return None
    if device.type != "cuda" and (not isinstance(view, int) or view <= _ONE_PIXEL_MAPS):
        if name == "bf16":
            raise UserError(
                "--set train.precision=bf16: on CPUs convolutions of volumes, and of images of at most 16 pixels, have wrong gradients in "
                "bfloat16. Use train.precision=auto, which is float32 here."
            )
        return None
    if device.type != "cuda":
        fast = name == "auto" and (before == "bfloat16" and has_bfloat16() if before else bfloat16_is_faster())
    elif not (fast := (capability := torch.cuda.get_device_capability(device)) >= _BFLOAT16_SINCE) and name == "bf16":
        raise UserError(
            "--set train.precision=bf16: this GPU does not compute in bfloat16. Its compute capability is "
            f"{capability[0]}.{capability[1]}, and 8.0 is needed. Use train.precision=auto, which is float32 here."
        )
    return torch.bfloat16 if fast or name == "bf16" else None


def has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 (AMX or AVX512_BF16)."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


@cache
def bfloat16_is_faster() -> bool:
    """Whether this CPU has instructions for bfloat16 and a convolution takes at most 0.8 of the time of float32 with them. That is
    measured, in a tenth of a second: with AVX512_BF16 one CPU took 0.56 of the time, and another 1.6 (docs/decisions.md)."""
    if not has_bfloat16():
        return False
    shortest = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))  # other programs only add time
    for _ in range(_ROUNDS):
        for dtype in shortest:
            maps, kernels = torch.ones(16, 64, 16, 16, dtype=dtype), torch.ones(64, 64, 3, 3, dtype=dtype)
            maps, kernels = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (maps, kernels))
            began = time.perf_counter()
            functional.conv2d(maps, kernels, padding=1)
            shortest[dtype] = min(shortest[dtype], time.perf_counter() - began)
    return shortest[torch.bfloat16] < _CLEARLY_FASTER * shortest[torch.float32]
