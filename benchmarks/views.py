"""Views per second of both executors, of torch compiled, and of lightly's SimCLRTransform, in one run: one table.

    python benchmarks/views.py [--device cuda] [--rounds 5] [--batch 64]

On one core, or on the device with its images there already; albumentations and lightly always run on a core of the CPU. Rounds are
interleaved, so that a busy machine slows all sides; the ratio is the median of the rounds' ratios. Images are phantoms, 8 bit, on one
channel for chest_xray and on three for natural and for lightly. The first batch of the compiled one is that which compiles.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image

from medssl import plugins
from medssl.data.phantom import radiograph
from medssl.views import executors, multi_crop

CASES = (("chest_xray", 96, 1), ("chest_xray", 224, 1), ("natural", 32, 3))
STEPS = iter(range(10**9))  # no batch is made twice
Work = Callable[[], object]


def works(recipe: str, images: np.ndarray, device: str) -> dict[str, Work]:
    """What is compared; each makes two views of every image."""
    size, rows = images.shape[-1], range(len(images))
    module = plugins.find("views.recipes", recipe)
    operations = module.build(module.Config())
    make, peer = executors.make("albumentations", operations, size), SimCLRTransform(input_size=size)
    pictures = [Image.fromarray(image.repeat(3 // len(image), axis=0).transpose(1, 2, 0)) for image in images]
    on_device, row_tensor = torch.from_numpy(images).to(device), torch.arange(len(images), device=device)
    eager, _ = multi_crop.make_on_device(operations, size, None)
    compiled, _ = multi_crop.make_on_device(operations, size, None, compiled=True)

    def albumentations() -> None:
        step = next(STEPS)
        np.stack([make(images[row], (0, step, row, view)) for view in (0, 1) for row in rows])

    def batched(views: multi_crop.BatchMaker) -> None:
        views(on_device, row_tensor, next(STEPS), 0)
        if device == "cuda":
            torch.cuda.synchronize()

    return {
        "albumentations": albumentations,
        "torch": lambda: batched(eager),
        "torch, compiled": lambda: batched(compiled),
        "lightly": lambda: [peer(picture) for picture in pictures],
    }


def seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(recipe: str, images: np.ndarray, device: str, rounds: int, kinds: tuple[str, ...] = ()) -> list[str]:
    """The rows of the table for one recipe and size; of these `kinds`, if any are named, lightly among them."""
    compared = {name: work for name, work in works(recipe, images, device).items() if not kinds or name in kinds}
    first = {name: seconds(work) for name, work in compared.items()}
    times: dict[str, list[float]] = {name: [] for name in compared}
    for turn in range(rounds + 1):
        for name, work in compared.items():
            spent = seconds(work)
            if turn:
                times[name].append(spent)
    found = []
    for name, spent in times.items():
        rate = 2 * len(images) / statistics.median(spent)
        ratio = statistics.median(peer / own for peer, own in zip(times["lightly"], spent, strict=True))
        found.append(f"| {recipe}, {images.shape[-1]} px | {name} | {rate:.0f} | {ratio:.2f} | {first[name]:.1f} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, torch {torch.__version__}, batches of {options.batch}, {options.rounds} rounds\n")
    print("| recipe | executor | views/s | times lightly | first batch, s |\n|---|---|---|---|---|")
    for recipe, size, channels in CASES:
        images = np.stack([255 * radiograph((i,), 1, size, lesion=False) for i in range(options.batch)]).astype(np.uint8)
        print("\n".join(measure(recipe, images[:, None].repeat(channels, axis=1), options.device, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
