"""What a step on one CPU core costs if the C library keeps freed memory (`medssl.train.memory.keep_freed_memory`), and if it gives it back.

    python benchmarks/freed_memory.py [--rounds 3]

Each measurement is a process of its own; rounds are interleaved; the ratio is the median of the rounds' ratios. CPU seconds are those of
the program and those of the system for it; the peak is that of the whole process.
"""

import argparse
import multiprocessing
import platform
import resource
import statistics
from collections.abc import Callable

import torch
from monai.networks.nets.resnet import ResNet
from timm import create_model

from medssl.train.memory import keep_freed_memory

STEPS = 3


def training(network: torch.nn.Module, images: torch.Tensor) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimiser.zero_grad()
        network(images).square().mean().backward()
        optimiser.step()

    return step


def features(network: torch.nn.Module, images: torch.Tensor) -> Callable[[], None]:
    network.eval()

    def step() -> None:
        with torch.no_grad():
            network(images)

    return step


def resnet18() -> torch.nn.Module:
    return create_model("resnet18", in_chans=1, num_classes=0).to(memory_format=torch.channels_last)


def of_volumes(width: int) -> torch.nn.Module:
    """ResNet-10, as the presets of volumes have it."""
    return ResNet("basic", [1] * 4, [width * 2**k for k in range(4)], n_input_channels=1, conv1_t_stride=2, feed_forward=False)


CASES: dict[str, Callable[[], Callable[[], None]]] = {
    "training, ResNet-18, 128 images of 64 pixels": lambda: training(resnet18(), torch.rand(128, 1, 64, 64)),
    "features, ResNet-18, 256 images of 64 pixels": lambda: features(resnet18(), torch.rand(256, 1, 64, 64)),
    "training, ResNet-10 of width 16, 128 volumes of 32 voxels": lambda: training(of_volumes(16), torch.rand(128, 1, 32, 32, 32)),
    "training, ResNet-10 of width 32, 32 volumes of 64 voxels": lambda: training(of_volumes(32), torch.rand(32, 1, 64, 64, 64)),
}


def measure(case: str, kept: bool) -> tuple[float, float, float]:
    """CPU seconds of a step, those of the system among them, and the peak in GB."""
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory(torch.device("cpu"))
    step = CASES[case]()
    step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(STEPS):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    return (after.ru_utime - before.ru_utime + system) / STEPS, system / STEPS, after.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread, {options.rounds} rounds\n")
    print("| what | given back: CPU s (system), GB | kept | ratio |\n|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for case in CASES:
            rounds = [[pool.apply(measure, (case, kept)) for kept in (False, True)] for _ in range(options.rounds)]
            ratio = statistics.median(given[0] / kept[0] for given, kept in rounds)
            cells = []
            for side in zip(*rounds, strict=True):
                seconds, system, peak = (statistics.median(values) for values in zip(*side, strict=True))
                cells.append(f"{seconds:.2f} ({system:.2f}), {peak:.1f}")
            print(f"| {case} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
