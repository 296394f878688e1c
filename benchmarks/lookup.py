"""Look-up and push, support set of 65,536 x 256, batch of 512, beside lightly's NNMemoryBankModule and a plain product, in one run.

    python benchmarks/lookup.py [--device cuda] [--rounds 10]

Rounds are interleaved, so that a busy machine slows all of them; the ratio is the median of the rounds' ratios. Memory: the largest
growth of the resident set while one look-up runs, each in a process of its own; on CUDA what torch's allocator had at its peak.
"""

import argparse
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightly.models.modules import NNMemoryBankModule
from torch import Tensor

from medssl.nn.losses import l2_normalize
from medssl.nn.support_set import SupportSet
from medssl.types import Rows

SIZE, WIDTH, BATCH = 65_536, 256, 512
Work = Callable[[], object]


def works(device: str) -> dict[str, Work]:
    """What is compared: finding the nearest rows of a batch and pushing the batch; and the product alone."""
    z = l2_normalize(torch.randn(BATCH, WIDTH)).to(device)
    tags = torch.arange(4 * BATCH, device=device).reshape(BATCH, 4)
    ours, bank = SupportSet(SIZE, WIDTH).to(device), NNMemoryBankModule(size=(SIZE, WIDTH)).to(device)

    def medssl() -> Tensor:
        found = ours.rows[ours.nearest(z, tags)[:, 0]]
        ours.push(Rows(z, tags))
        return found

    return {"medssl": medssl, "lightly": lambda: bank(z, update=True), "plain product and argmax": lambda: (z @ ours.rows.T).argmax(dim=1)}


def seconds(work: Work, device: str) -> float:
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _grown(name: str, device: str, threads: int, found: "multiprocessing.Queue[float]") -> None:
    torch.set_num_threads(threads)
    work = works(device)[name]
    torch.ones(64, 64).mm(torch.ones(64, 64))  # what the first product sets up is not counted
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        found.put((torch.cuda.max_memory_allocated() - before) / 2**20)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident_mib("VmRSS")
        work()
        found.put(resident_mib("VmHWM") - before)


def resident_mib(key: str) -> float:
    """Of this process (Linux): VmRSS now, VmHWM at its peak."""
    return float(Path("/proc/self/status").read_text("utf-8").partition(f"{key}:")[2].split()[0]) / 1024


def memory_mib(name: str, device: str) -> float:
    """What one look-up needs beside the set itself, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=_grown, args=(name, device, torch.get_num_threads(), found))
    process.start()
    grown = found.get(timeout=120)
    process.join()
    return grown


def measure(device: str, rounds: int) -> dict[str, tuple[float, float]]:
    """{name: (median milliseconds, median ratio of lightly's time to it)}."""
    compared = works(device)
    times: dict[str, list[float]] = {name: [] for name in compared}
    for turn in range(rounds + 2):
        for name, work in compared.items():
            spent = seconds(work, device)
            if turn >= 2:
                times[name].append(spent)
    ratios = {name: statistics.median(a / b for a, b in zip(times["lightly"], spent, strict=True)) for name, spent in times.items()}
    return {name: (1e3 * statistics.median(spent), ratios[name]) for name, spent in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.rounds} rounds\n")
    print("| what | ms | times faster than lightly | memory beside the set, MiB |\n|---|---|---|---|")
    for what, (milliseconds, ratio) in measure(options.device, options.rounds).items():
        print(f"| {what} | {milliseconds:.0f} | {ratio:.2f} | {memory_mib(what, options.device):.0f} |")


if __name__ == "__main__":
    main()
