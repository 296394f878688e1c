"""The memory that a step takes and keeps, the free memory, and the largest batch that fits."""

import ctypes
import gc
import resource
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path

import torch
from torch import nn

from medssl.types import Size, edges

_USABLE_SHARE = {"cuda": 0.9, "cpu": 0.7}  # of the free memory; fragmentation (GPU) and other processes (CPU) need the rest
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # options of mallopt(3)
_CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))  # versions 2 and 1


@cache
def keep_freed_memory(device: torch.device) -> None:
    """Where tensors are on a CPU, the C library from now on keeps their memory for the next ones; only those above 1 GiB are given back.
    By default glibc gives back what is larger than 32 MB, and the system then clears new pages for it in every layer: a tenth to a quarter
    of a step (benchmarks/freed_memory.py). Does nothing where the C library has no mallopt, and where the address space is limited
    (ulimit -v), in which kept memory has no room."""
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    if device.type == "cpu" and not limited and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_TRIM_THRESHOLD, -1)  # never


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means "out of memory"; torch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def free_bytes(device: torch.device) -> int:
    """The memory that this process may still take. On a CPU, the smallest of what the machine has free and what the limits of the
    container and of the process leave."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = [_read_kilobytes(Path("/proc/meminfo"), "MemAvailable:")]
    for limit, used in _CGROUPS:
        root = Path("/sys/fs/cgroup")
        if (root / limit).is_file() and (text := (root / limit).read_text("utf-8").strip()) != "max":
            free.append(int(text) - int((root / used).read_text("utf-8")))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        free.append(limit - _read_kilobytes(Path("/proc/self/status"), "VmSize:"))
    return max(0, min(free))


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The largest growth of the used memory while `work` runs (Linux)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc keeps freed memory: its use by `work` would not be measured
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # resets the peak, VmHWM
    before = _read_kilobytes(Path("/proc/self/status"), "VmRSS:")
    work()
    return max(0, _read_kilobytes(Path("/proc/self/status"), "VmHWM:") - before)


def activation_bytes(encoder: nn.Module, channels: int, size: Size) -> int:
    """The memory in float32 that the forward pass of `encoder` keeps of each image of `channels` channels for the backward pass.
    Nothing is computed for that, on torch's device "meta"; 0 for a network that does not run there."""
    copy = deepcopy(encoder).to("meta").train()
    two, four = (_saved_bytes(copy, torch.empty(images, channels, *edges(size), device="meta")) for images in (2, 4))
    return (four - two) // 2  # so the weights, which are saved once, do not count


def _saved_bytes(network: nn.Module, images: torch.Tensor) -> int:
    saved: dict[int, torch.Tensor] = {}  # the tensors, too, stay alive: the number of a storage may be given again

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        return saved.setdefault(tensor.untyped_storage()._cdata, tensor)

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(images)
    except RuntimeError:  # also NotImplementedError: the network looks at values, of which there are none
        return 0
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def budget(device: torch.device) -> int:
    """The part of the free memory that a step may take."""
    return int(_USABLE_SHARE[device.type] * free_bytes(device))


def largest_batch(measure: Callable[[int], int], budget: int, largest: int, step: int) -> tuple[int, int]:
    """The largest batch size whose step takes at most `budget` bytes, and the bytes of that step; (0, 0) if no batch fits.

    Sizes are multiples of `step`, up to `largest`. `measure(size)` runs one step and returns its bytes, or raises an error if memory
    runs out. Two small batches give the bytes of one image; from them follows the first size to try.
    """
    first = min(largest, 2 * step)
    low, high = (_try_size(measure, size) for size in (step, first))
    if low is None or low > budget:
        return 0, 0
    if high is None or high > budget:
        return step, low
    bytes_per_image = max(1.0, (high - low) / max(1, first - step))
    size = min(largest, int((budget - low) / bytes_per_image) + step) // step * step
    while size > first:
        step_bytes = _try_size(measure, size)
        if step_bytes is not None and step_bytes <= budget:
            return size, step_bytes
        size = min(size - step, int(size * 0.9)) // step * step
    return first // step * step, high


def _try_size(measure: Callable[[int], int], size: int) -> int | None:
    try:
        return measure(size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _read_kilobytes(path: Path, key: str) -> int:
    """A value of a /proc file, which counts in kB, in bytes."""
    return int(path.read_text("utf-8").partition(key)[2].split()[0]) * 1024
