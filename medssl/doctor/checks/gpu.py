"""GPUs: the driver against the CUDA that torch was built with, each card and its memory, NCCL between them."""

import ctypes
import os
import warnings
from collections.abc import Iterator

import torch
import torch.cuda.nccl

from medssl.doctor.finding import Finding, make_finding

_ON_CPU = "Training runs on the CPU"
_BUSY_BYTES = 2**30  # of other processes: more than what a context takes


def check() -> Iterator[Finding]:
    """The driver, then what torch sees."""
    driver = _driver_version()
    yield driver_finding(torch.version.cuda, driver)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        yield no_gpu(torch.version.cuda, driver, os.environ.get("CUDA_VISIBLE_DEVICES"), [str(item.message) for item in said])
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


def driver_finding(wheel: str | None, driver: str | None) -> Finding:
    """`wheel`: the CUDA that torch was built with, as "13.2"; `driver`: the newest that the driver knows; None where there is none.

    A driver runs what was built with an older CUDA, and with a newer one of the same major version, but for code that it would have to
    compile itself (NVIDIA's "CUDA compatibility").
    """
    name = "CUDA driver"
    if driver is None:
        built = f"torch is built with CUDA {wheel}" if wheel else "torch is built without CUDA"
        return make_finding(
            name, f"none; {built}", warning=f"{_ON_CPU}. For a GPU: install NVIDIA's driver; in a container add --gpus all."
        )
    if wheel is None:
        return make_finding(name, f"for CUDA {driver}; torch is built without CUDA", warning=f"{_ON_CPU}. Install a torch with CUDA.")
    seen = f"for CUDA {driver}, torch is built with {wheel}"
    asked, known = (tuple(map(int, version.split("."))) for version in (wheel, driver))
    if known >= asked:
        return make_finding(name, seen)
    remedy = f"Install a driver for CUDA {wheel} or newer, or a torch that is built with {driver} or older."
    if known[0] < asked[0]:
        return make_finding(name, f"{seen}: too old", error=remedy)
    return make_finding(name, f"{seen}: it runs, but train.compile may fail", warning=remedy)


def no_gpu(wheel: str | None, driver: str | None, visible: str | None, said: list[str]) -> Finding:
    """A warning, not an error: everything works on the CPU, slowly."""
    because = ""
    if visible is not None and visible.strip() in ("", "-1"):
        because = f"CUDA_VISIBLE_DEVICES={visible!r} hides all"
    elif wheel and driver:
        because = " ".join(" ".join(said).split())[:300] or "the driver is there, and shows none"
    hint = " If this machine has a GPU, compare with nvidia-smi." if because else ""
    return make_finding("GPUs", f"torch sees none{f': {because}' if because else ''}", warning=f"{_ON_CPU}.{hint}")


def card(number: int, model: str, native: str, built_for: list[str], total: int, others: int) -> Finding:
    """`native`: "sm_90"; `built_for`: those that torch has code for, or can compile for. `total`, `others`: bytes, of all and in use."""
    major = int(native[3:-1])
    fits = not built_for or native in built_for or any(name.startswith(("sm_", "compute_")) and _major(name) == major for name in built_for)
    seen = f"{model}, {total / 2**30:.0f} GiB, {others / 2**30:.1f} GiB of it in use by others"
    return make_finding(
        f"GPU {number}",
        seen,
        warning=f"Other processes hold its memory: nvidia-smi names them; CUDA_VISIBLE_DEVICES chooses another card, other than {number}."
        if others > _BUSY_BYTES
        else "",
        error="" if fits else f"torch has no code for {native} (it has {', '.join(built_for)}). Install a torch that does.",
    )


def nccl(version: str, cards: int) -> Finding:
    """What processes on several GPUs speak through; "" where torch has none."""
    missing = "" if version or cards < 2 else "Several GPUs need it for one training. Install NVIDIA's build of torch."
    return make_finding("NCCL", version or "none", error=missing)


def _major(name: str) -> int:
    return int("".join(filter(str.isdigit, name.partition("_")[2]))[:-1])


def _driver_version() -> str | None:
    """The newest CUDA that the driver knows, as "13.2"; None where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)) or not number.value:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"
