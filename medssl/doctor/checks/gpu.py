"""GPUs: the driver, compared with the CUDA version of torch; each card and its memory; and NCCL."""

import ctypes
import os
import warnings
from collections.abc import Iterator

import torch
import torch.cuda.nccl

from medssl.doctor.check_result import CheckResult, make_result

_ON_CPU = "Training runs on the CPU"
_BUSY_BYTES = 2**30  # of other processes: more than an idle CUDA context takes


def check() -> Iterator[CheckResult]:
    """The driver, then the GPUs that torch sees."""
    driver = _driver_version()
    yield driver_finding(torch.version.cuda, driver)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        yield no_gpu(torch.version.cuda, driver, os.environ.get("CUDA_VISIBLE_DEVICES"), [str(item.message) for item in caught])
        return
    count = torch.cuda.device_count()
    for number in range(count):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        others = total - free - torch.cuda.memory_reserved(number)
        native = f"sm_{properties.major}{properties.minor}"
        yield card(number, properties.name, native, torch.cuda.get_arch_list(), total, others)
    version = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else ""
    yield nccl(version, count)


def driver_finding(wheel: str | None, driver: str | None) -> CheckResult:
    """`wheel`: the CUDA version that torch was built with ("13.2"), None for torch without CUDA. `driver`: the newest CUDA version that the
    driver supports, None without a driver.

    A driver runs programs of an older CUDA version. It also runs programs of a newer version with the same major number, except code that
    the driver must compile itself (NVIDIA's "CUDA compatibility").
    """
    name = "CUDA driver"
    if driver is None:
        built = f"torch is built with CUDA {wheel}" if wheel else "torch is built without CUDA"
        return make_result(name, f"none; {built}", warning=f"{_ON_CPU}. For a GPU: install NVIDIA's driver; in a container add --gpus all.")
    if wheel is None:
        return make_result(name, f"for CUDA {driver}; torch is built without CUDA", warning=f"{_ON_CPU}. Install a torch with CUDA.")
    seen = f"for CUDA {driver}, torch is built with {wheel}"
    needed, known = (tuple(map(int, version.split("."))) for version in (wheel, driver))
    if known >= needed:
        return make_result(name, seen)
    remedy = f"Install a driver for CUDA {wheel} or newer, or a torch that is built with {driver} or older."
    if known[0] < needed[0]:
        return make_result(name, f"{seen}: too old", error=remedy)
    return make_result(name, f"{seen}: it runs, but train.compile may fail", warning=remedy)


def no_gpu(wheel: str | None, driver: str | None, visible: str | None, caught: list[str]) -> CheckResult:
    """torch sees no GPU. This is a warning and no error, as everything works on the CPU, slowly."""
    reason = ""
    if visible is not None and visible.strip() in ("", "-1"):
        reason = f"CUDA_VISIBLE_DEVICES={visible!r} hides all"
    elif wheel and driver:
        reason = " ".join(" ".join(caught).split())[:300] or "the driver is there, and shows none"
    hint = " If this machine has a GPU, compare with nvidia-smi." if reason else ""
    return make_result("GPUs", f"torch sees none{f': {reason}' if reason else ''}", warning=f"{_ON_CPU}.{hint}")


def card(number: int, model: str, native: str, built_for: list[str], total: int, others: int) -> CheckResult:
    """One GPU. `native`: its architecture ("sm_90"). `built_for`: the architectures that torch has code for. `total`: bytes of memory.
    `others`: bytes in use by other processes."""
    major = int(native[3:-1])
    fits = not built_for or native in built_for or any(name.startswith(("sm_", "compute_")) and _major(name) == major for name in built_for)
    seen = f"{model}, {total / 2**30:.0f} GiB, {others / 2**30:.1f} GiB of it in use by others"
    return make_result(
        f"GPU {number}",
        seen,
        warning=f"Other processes use its memory: nvidia-smi names them; CUDA_VISIBLE_DEVICES chooses another card, other than {number}."
        if others > _BUSY_BYTES
        else "",
        error="" if fits else f"torch has no code for {native} (it has {', '.join(built_for)}). Install a torch that does.",
    )


def nccl(version: str, cards: int) -> CheckResult:
    """NCCL, which connects processes on several GPUs. `version`: "" if torch has no NCCL. `cards`: the number of GPUs."""
    missing = "" if version or cards < 2 else "Several GPUs need it for one training. Install NVIDIA's build of torch."
    return make_result("NCCL", version or "none", error=missing)


def _major(name: str) -> int:
    return int("".join(filter(str.isdigit, name.partition("_")[2]))[:-1])


def _driver_version() -> str | None:
    """The newest CUDA version that the driver supports ("13.2"); None without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)) or not number.value:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"
