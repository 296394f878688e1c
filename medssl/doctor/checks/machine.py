"""Cores, memory and shared memory of the machine, and the part that the container or the job may use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from medssl.data.loader import workers_here
from medssl.data.workers import cores
from medssl.doctor.check_result import CheckResult, make_result
from medssl.runs import presets
from medssl.train.memory import free_bytes

_LOW_BYTES = 4 * 2**30
_CGROUPS = Path("/sys/fs/cgroup")


def check() -> Iterator[CheckResult]:
    """The limits of this process in its container."""
    yield processors(os.cpu_count() or 1, cores(), quota(_CGROUPS), torch.get_num_threads())
    yield memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), free_bytes(torch.device("cpu")))
    yield _shared_memory()


def processors(machine: int, allowed: int, share: float | None, threads: int) -> CheckResult:
    """`machine`: the cores of the machine. `allowed`: the cores that the process may use. `share`: how many cores the container may use at
    a time, None without a limit. `threads`: the threads that torch starts."""
    limit = f", a limit of {share:g} of them at a time" if share is not None else ""
    fewer = max(1, int(share or 1))
    slow = share is not None and threads > max(1, share)
    return make_result(
        "cores",
        f"{allowed} of {machine}{limit}, torch starts {threads} threads",
        warning=f"More threads than the container may run slow each other down: set OMP_NUM_THREADS={fewer} and --set "
        f"train.workers={fewer - 1}, or raise the limit (docker --cpus)."
        if slow
        else "",
    )


def quota(root: Path) -> float | None:
    """How many cores the container may use at a time, from cgroups version 2 or 1; None without a limit."""
    if (limit := root / "cpu.max").is_file():
        allowed, period = limit.read_text("utf-8").split()
        return None if allowed == "max" else int(allowed) / int(period)
    if (limit := root / "cpu/cpu.cfs_quota_us").is_file() and (allowed := int(limit.read_text("utf-8"))) > 0:
        return allowed / int(limit.with_name("cpu.cfs_period_us").read_text("utf-8"))
    return None


def memory(machine: int, free: int) -> CheckResult:
    """`machine`: bytes of memory of the machine. `free`: bytes that this process may still take, within all limits."""
    return make_result(
        "memory",
        f"{free / 2**30:.1f} GiB free for this process, of the machine's {machine / 2**30:.1f} GiB",
        warning="Too little for many radiographs of 224 pixels: free memory, raise the container's limit (docker --memory), or use "
        "--set train.batch_size=auto."
        if free < _LOW_BYTES
        else "",
    )


def _shared_memory() -> CheckResult:
    """Whether /dev/shm is large enough for the batches of the preset with the largest batches."""
    preset = presets.load("chest_xray" if torch.cuda.is_available() else "chest_xray_cpu")
    data, batch = preset["data"], preset["train"]["batch_size"]
    workers, note = workers_here(-1, 2 * 4 * batch * data["channels"] * data["size"] ** 2)
    free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0  # noqa: S108
    return make_result("shared memory", f"{free / 2**30:.1f} GiB free in /dev/shm, enough for {workers} loader workers", warning=note)
