"""Cores that other programs keep busy. Threads of a training that share a core wait for each other in a busy loop of oneDNN's convolutions:
beside one other program a training with two threads on two cores was forty times slower than with one (docs/decisions.md)."""

import os
import time
from pathlib import Path

import torch

_STAT = Path("/proc/stat")  # where there is none, no core is counted as busy
_SECONDS = 0.3
_BUSY = 0.5  # of the time


def tell_busy_cores(device: torch.device, processes: int = 1) -> str:
    """A note where the one process of a training has more threads on a CPU than there are cores that others leave free; "" elsewhere.
    Takes 0.3 s."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or processes > 1 or threads == 1 or not _STAT.exists():
        return ""
    before = _STAT.read_text("utf-8")
    time.sleep(_SECONDS)
    allowed = os.sched_getaffinity(0)
    busy = allowed & busy_cores(before, _STAT.read_text("utf-8"))
    free = max(1, len(allowed) - len(busy))
    if threads <= free:
        return ""
    return (
        f"Other programs keep {len(busy)} of {len(allowed)} cores busy, and this training has {threads} threads. Threads that share a core "
        f"can make the training many times slower. If it is slow: stop it with Ctrl-C, and put OMP_NUM_THREADS={free} before the command."
    )


def busy_cores(before: str, after: str) -> set[int]:
    """The numbers of the cores that were busy for half of the time or more between two texts of /proc/stat."""
    earlier, later = _times(before), _times(after)
    return {core for core in earlier.keys() & later.keys() if _share(earlier[core], later[core]) >= _BUSY}


def _times(stat: str) -> dict[int, tuple[int, int]]:
    """{core: (ticks in which the core was busy, all ticks)}, as `man 5 proc_stat` has them: the fourth and fifth number are idle ticks."""
    lines = [line.split() for line in stat.splitlines() if line.startswith("cpu") and not line.startswith("cpu ")]
    counted = {int(name.removeprefix("cpu")): [int(number) for number in numbers[:8]] for name, *numbers in lines}
    return {core: (sum(ticks) - ticks[3] - ticks[4], sum(ticks)) for core, ticks in counted.items()}


def _share(earlier: tuple[int, int], later: tuple[int, int]) -> float:
    return (later[0] - earlier[0]) / max(1, later[1] - earlier[1])
