"""How much memory a step takes, how much there is, and the largest batch that fits."""

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path

import torch

_SHARE = {"cuda": 0.9, "cpu": 0.7}  # of what is free: fragments on a GPU; other processes, and the loader's, on a CPU
_CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))  # versions 2 and 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was short; torch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def free_bytes(device: torch.device) -> int:
    """What this process may still take: of the GPU; on a CPU the least of the machine's, the container's and the process's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = [_kilobytes(Path("/proc/meminfo"), "MemAvailable:")]
    for limit, used in _CGROUPS:
        root = Path("/sys/fs/cgroup")
        if (root / limit).is_file() and (text := (root / limit).read_text("utf-8").strip()) != "max":
            free.append(int(text) - int((root / used).read_text("utf-8")))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        free.append(limit - _kilobytes(Path("/proc/self/status"), "VmSize:"))
    return max(0, min(free))


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """By how much memory grows at most while `work` runs (Linux)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc keeps what was freed: growth into that would not be seen
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak starts anew
    before = _kilobytes(Path("/proc/self/status"), "VmRSS:")
    work()
    return max(0, _kilobytes(Path("/proc/self/status"), "VmHWM:") - before)


def budget(device: torch.device) -> int:
    """The part of the free memory that a step may take."""
    return int(_SHARE[device.type] * free_bytes(device))


def largest_batch(measure: Callable[[int], int], budget: int, most: int, step: int) -> tuple[int, int]:
    """The largest batch, a multiple of `step` up to `most`, whose step takes at most `budget` bytes, and what that takes; (0, 0) where
    none does. `measure(batch)` runs one step and returns bytes, or raises for shortage.

    Two small batches tell what an image adds; the size that follows is then tried.
    """
    first = min(most, 2 * step)
    low, high = (_try_size(measure, size) for size in (step, first))
    if low is None or low > budget:
        return 0, 0
    if high is None or high > budget:
        return step, low
    each = max(1.0, (high - low) / max(1, first - step))
    size = min(most, int((budget - low) / each) + step) // step * step
    while size > first:
        taken = _try_size(measure, size)
        if taken is not None and taken <= budget:
            return size, taken
        size = min(size - step, int(size * 0.9)) // step * step
    return first // step * step, high


def _try_size(measure: Callable[[int], int], size: int) -> int | None:
    try:
        return measure(size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _kilobytes(path: Path, key: str) -> int:
    """A value of a /proc file, which counts in kB, in bytes."""
    return int(path.read_text("utf-8").partition(key)[2].split()[0]) * 1024
