"""Training on a GPU beside its own ceiling and beside lightly: what `benchmarks/gpu.sh` runs. Without MLflow, medmnist and network.

For each network and size: images/s of the ceiling (the same step on views that lie on the device already), of the whole (stored images,
views made on the device, the loop) and their ratio; MFU, the step's floating-point operations (torch counts those of products and
convolutions) a second as a share of what a plain bfloat16 product reaches in the same run; the peak of the allocator. Then lightly's NNCLR
with its own transform and loader on all cores, where it is installed; then what the time of a step goes to, by kernel.
"""

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from medssl import methods, plugins
from medssl.data.loader import Batches, Loader
from medssl.encoder.artefact import build_encoder
from medssl.train import optimisers
from medssl.train.feed import Feed, copy_to_gpu
from medssl.train.loop import Plan, choose_precision, fit
from medssl.types import Batch
from medssl.views import multi_crop

CHANNELS, IMAGES = 3, 8192


class Case(NamedTuple):
    model: str
    size: int
    batch: int
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never changed


CASES = (
    Case("resnet18", 32, 1024),
    Case("resnet18", 96, 1024),
    Case("resnet18", 224, 256),
    Case("resnet50", 32, 512),
    Case("resnet50", 96, 512),
    Case("resnet50", 224, 128),
    Case("vit_small_patch16_224", 32, 1024, {"img_size": 32, "patch_size": 4}),
    Case("vit_small_patch16_224", 96, 1024),
    Case("vit_small_patch16_224", 224, 256),
)


class Training:
    """One method with its optimiser and data; `whole` and `ceiling` train so many steps."""

    def __init__(self, case: Case, method: str, device: torch.device) -> None:
        backbone = {"name": "timm", "model": case.model, "arguments": dict(case.arguments)}
        mean, std = torch.full((CHANNELS,), 0.5), torch.full((CHANNELS,), 0.25)
        module = plugins.find("methods", method)
        config = methods.fit_to(module.Config(hidden=2048, width=256, support_size=4096), IMAGES, 10**6)
        self.method = module.build(config, build_encoder(backbone, CHANNELS, case.size, mean, std, 0)).to(device)
        self._optimiser = optimisers.make("adamw", self.method, 1e-3, 0.05)
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, CHANNELS, case.size, case.size), np.uint8)
        recipe = plugins.find("views.recipes", "natural")
        make_views, _ = multi_crop.make_on_device(recipe.build(recipe.Config()), case.size, None)
        there = copy_to_gpu(images, device)
        batches = Batches(None if there is not None else images, np.arange(IMAGES), None, 0, case.batch)
        loader = Loader(batches, 10**6, pin=device.type == "cuda")
        self._plan = Plan(10**6, 1e-3, 0, device, choose_precision("auto", device))
        feed = Feed(loader, device, make_views, there)
        self._batches, self._ready, self.device = iter(feed), feed.batch(0), device

    def whole(self, steps: int) -> None:
        self._fit(islice(self._batches, steps))

    def ceiling(self, steps: int) -> None:
        self._fit(repeat(self._ready, steps))

    def operations(self) -> int:
        """Floating-point operations of one step."""
        with FlopCounterMode(display=False) as counter:
            self.ceiling(1)
        return counter.get_total_flops()

    def _fit(self, batches: Iterator[Batch]) -> None:
        fit(self.method, batches, self._optimiser, self._plan)


def seconds(work: Callable[[int], None], device: torch.device, budget: float) -> float:
    """Of one step: as many as fit into `budget` seconds, after three."""

    def spent(steps: int) -> float:
        synchronise(device)
        began = time.perf_counter()
        work(steps)
        synchronise(device)
        return (time.perf_counter() - began) / steps

    return spent(max(3, int(budget / spent(3))))


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def product_rate(device: torch.device, edge: int) -> float:
    """Operations a second of a plain product of bfloat16 matrices, the best of some."""
    a = torch.randn(edge, edge, device=device, dtype=torch.bfloat16)

    def work(steps: int) -> None:
        for _ in range(steps):
            torch.mm(a, a)

    return max(2 * edge**3 / seconds(work, device, 0.3) for _ in range(3))


def row(case: Case, method: str, device: torch.device, budget: float, peak: float) -> str:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training = Training(case, method, device)
    ceiling, whole = (seconds(work, device, budget) for work in (training.ceiling, training.whole))
    mfu = training.operations() / whole / peak
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    rates = f"{case.batch / whole:.0f} | {case.batch / ceiling:.0f} | {ceiling / whole:.2f} | {100 * mfu:.0f} %"
    return f"| {case.model}, {method}, {case.size} px, batch {case.batch} | {rates} | {memory:.1f} |"


def beside_lightly(case: Case, device: torch.device, budget: float, folder: Path) -> str:
    """lightly's loader makes its views with all cores; both train in the same precision."""
    import peer

    own = Training(case, "nnclr", device)
    ours = seconds(own.whole, device, budget)
    theirs = peer.Peer(CHANNELS, case.size < 64, device.type, choose_precision("auto", device))
    batches = peer.batches(folder, case.size, CHANNELS, case.batch, workers=os.cpu_count() or 1)

    def work(steps: int) -> None:
        for views in islice(batches, steps):
            theirs.step(views)

    spent = seconds(work, device, 3 * budget)
    return f"| {case.size} px, batch {case.batch} | {case.batch / ours:.0f} | {case.batch / spent:.0f} | {spent / ours:.2f} |"


def pictures(folder: Path, number: int, edge: int = 128) -> Path:
    folder.mkdir()
    for index in range(number):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (edge, edge, 3), np.uint8)).save(folder / f"{index}.jpg")
    return folder


def profile(case: Case, device: torch.device) -> str:
    """Where the time of three whole steps goes, the fifteen largest."""
    training = Training(case, "pnnclr", device)
    training.whole(3)
    with torch.profiler.profile() as found:
        training.whole(3)
        synchronise(device)
    order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return found.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--models", nargs="*", default=sorted({case.model for case in CASES}))
    parser.add_argument("--sizes", type=int, nargs="*", default=[32, 96, 224])
    parser.add_argument("--batch", type=int, help="instead of each case's own")
    options = parser.parse_args()
    device = torch.device(options.device)
    cases = [case for case in CASES if case.model in options.models and case.size in options.sizes]
    cases = [case._replace(batch=options.batch or case.batch) for case in cases]
    torch.backends.cudnn.benchmark = True
    peak = product_rate(device, 8192 if device.type == "cuda" else 1024)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, a plain bfloat16 product {peak / 1e12:.1f} TFLOP/s\n")
    print("| training | images/s | ceiling, images/s | share | MFU | peak GiB |\n|---|---|---|---|---|---|")
    for case in cases:
        for method in ("nnclr", "pnnclr") if case.model == "resnet18" else ("pnnclr",):
            print(row(case, method, device, options.seconds, peak), flush=True)
    if importlib.util.find_spec("lightly"):
        print("\n| resnet18, nnclr | medssl, images/s | lightly, images/s | ratio |\n|---|---|---|---|")
        with tempfile.TemporaryDirectory() as place:
            folder = pictures(Path(place) / "pictures", max(case.batch for case in cases) + 64)
            for case in (case for case in cases if case.model == "resnet18" and case.size <= 96):
                print(beside_lightly(case, device, options.seconds, folder), flush=True)
    else:
        print("\nlightly is not installed here: nothing beside it.")
    print(f"\n{cases[-1].model}, {cases[-1].size} px:\n{profile(cases[-1], device)}")


if __name__ == "__main__":
    main()
