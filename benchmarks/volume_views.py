"""Views of volumes per second of both executors, and of MONAI's random transforms with the same operations, in one run: one table.

    python benchmarks/volume_views.py [--device cuda] [--rounds 5] [--batch 16] [--edge 64]
    python benchmarks/volume_views.py --memory 200     # the peak memory of one view of each of so many stored volumes

On one core, or on the device with its volumes there already; OpenCV's executor and MONAI's transforms always run on a core of the CPU.
Rounds are interleaved, so that a busy machine slows all sides; the ratio is the median of the rounds' ratios. Volumes are noise of 8 bits;
the recipe is volume_mr, which has all operations, and MONAI's transforms have its ranges and probabilities.

Memory is what a process takes beyond its imports, each side in a process of its own: medssl reads the store's array through a memory map,
MONAI's CacheDataset loads one file for each volume.
"""

import argparse
import math
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.dataset import CacheDataset
from monai.data.image_reader import NumpyReader
from monai.transforms.compose import Compose
from monai.transforms.croppad.array import RandScaleCrop
from monai.transforms.intensity import array as intensity
from monai.transforms.io.array import LoadImage
from monai.transforms.spatial import array as spatial

from medssl import plugins
from medssl.views import executors, multi_crop

RECIPE = plugins.find("views.recipes", "volume_mr")
STEPS = iter(range(10**9))  # no batch is made twice


def of_monai(settings: Any, edge: int) -> Compose:
    """The operations of the recipe as MONAI's transforms of an array [C, D, H, W] in [0, 1]."""
    radians, (least, most) = math.radians(settings.rotation_degrees), settings.gamma
    sigma = tuple(edge * share for share in settings.blur_sigma)
    return Compose(
        [
            spatial.RandRotate(range_x=radians, prob=settings.rotation_p, padding_mode="zeros"),
            RandScaleCrop(settings.crop_volume[0] ** (1 / 3), 1.0, random_size=True),
            spatial.Resize((edge, edge, edge), mode="trilinear"),
            spatial.RandFlip(settings.flip_p, spatial_axis=2),
            spatial.RandSimulateLowResolution(prob=settings.thick_slices_p, zoom_range=(1 / 3, 1 / 3)),
            intensity.RandBiasField(degree=3, coeff_range=(0, settings.bias_strength), prob=settings.bias_p),
            intensity.RandGaussianSmooth(sigma, sigma, sigma, prob=settings.blur_p),
            intensity.RandGaussianNoise(prob=settings.noise_p, std=settings.noise_std[1]),
            intensity.RandScaleIntensity(settings.contrast, prob=settings.brightness_contrast_p),
            intensity.RandShiftIntensity(settings.brightness, prob=settings.brightness_contrast_p),
            intensity.RandAdjustContrast(prob=settings.gamma_p, gamma=(least, most)),
        ]
    )


def works(volumes: np.ndarray, device: str) -> dict[str, Callable[[], object]]:
    """What is compared; each makes two views of every volume."""
    settings, edge, rows = RECIPE.Config(), volumes.shape[-1], range(len(volumes))
    operations, size = RECIPE.build(settings), volumes.shape[2:]
    make, peer = executors.make("albumentations", operations, size), of_monai(settings, edge)
    on_device, row_tensor = torch.from_numpy(volumes).to(device), torch.arange(len(volumes), device=device)
    batched, _ = multi_crop.make_on_device(operations, size, None)

    def opencv() -> None:
        step = next(STEPS)
        np.stack([make(volumes[row], (0, step, row, view)) for view in (0, 1) for row in rows])

    def on_the_device() -> None:
        batched(on_device, row_tensor, next(STEPS), 0)
        if device == "cuda":
            torch.cuda.synchronize()

    def transforms() -> None:
        np.stack([np.asarray(peer(volumes[row].astype(np.float32) / 255)) for _ in (0, 1) for row in rows])

    return {"OpenCV": opencv, "torch": on_the_device, "MONAI": transforms}


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(volumes: np.ndarray, device: str, rounds: int) -> list[str]:
    """The rows of the table. A first round is not counted."""
    compared = works(volumes, device)
    times = {name: [seconds(work)] for name, work in compared.items()}
    for _ in range(rounds):
        for name, work in compared.items():
            times[name].append(seconds(work))
    found = []
    for name, (_, *spent) in times.items():
        rate = 2 * len(volumes) / statistics.median(spent)
        ratio = statistics.median(peer / own for peer, own in zip(times["MONAI"][1:], spent, strict=True))
        found.append(f"| {volumes.shape[-1]} | {name} | {rate:.0f} | {ratio:.2f} |")
    return found


def views_of_monai(folder: Path, edge: int) -> Iterator[object]:
    """One view of each file by MONAI's CacheDataset, which keeps the loaded volumes."""
    loading = [LoadImage(NumpyReader, image_only=True, ensure_channel_first=True), intensity.ScaleIntensityRange(0, 255, 0, 1)]
    transforms = Compose([*loading, *of_monai(RECIPE.Config(), edge).transforms])
    dataset = CacheDataset(sorted((folder / "files").iterdir()), transforms, progress=False)
    for row in range(len(dataset)):
        yield dataset[row]


def views_of_medssl(folder: Path, edge: int) -> Iterator[object]:
    """One view of each volume of an array that is read through a memory map, as a store's is."""
    make = executors.make("albumentations", RECIPE.build(RECIPE.Config()), (edge, edge, edge))
    for row, volume in enumerate(np.load(folder / "images.npy", mmap_mode="r")):
        yield make(volume, (0, 0, row, 0))


def measure_memory(views: Callable[[Path, int], Iterator[object]], folder: Path, edge: int, found: "multiprocessing.Queue[Any]") -> None:
    """Puts what the views take in this process, in MiB: at the peak, and the most between two views without pages of mapped files. Those
    the system may drop at any time."""
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, own = resident_mib("VmRSS"), resident_mib("RssAnon")
    most = max(resident_mib("RssAnon") for _ in views(folder, edge))
    found.put((resident_mib("VmHWM") - before, most - own))


def resident_mib(key: str) -> float:
    """Of this process (Linux): VmRSS now, VmHWM at its peak, RssAnon without files."""
    return float(Path("/proc/self/status").read_text("utf-8").partition(f"{key}:")[2].split()[0]) / 1024


def compare_memory(volumes: int, edge: int) -> list[str]:
    """The rows of the table, each side in a process of its own."""
    context, rows = multiprocessing.get_context("spawn"), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.random.default_rng(0).integers(0, 256, (volumes, 1, *(edge,) * 3), np.uint8)
        np.save(folder / "images.npy", images)
        (folder / "files").mkdir()
        for row, image in enumerate(images):
            np.save(folder / f"files/{row:05}.npy", image[0])
        for side, views in (("medssl", views_of_medssl), ("MONAI's CacheDataset", views_of_monai)):
            found: multiprocessing.Queue[Any] = context.Queue()
            process = context.Process(target=measure_memory, args=(views, folder, edge, found))
            process.start()
            peak, own = found.get()
            process.join()
            rows.append(f"| {side} | {peak:.0f} | {own:.0f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--memory", type=int, default=0, help="measure memory instead, with so many volumes")
    options = parser.parse_args()
    if options.memory:
        print(f"one view of each of {options.memory} volumes of {options.edge} voxels, 8 bits\n")
        print("| views by | peak MiB | without pages of mapped files |\n|---|---|---|")
        print("\n".join(compare_memory(options.memory, options.edge)))
        return
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, torch {torch.__version__}, batches of {options.batch}, {options.rounds} rounds\n")
    print("| edge in voxels | executor | views/s | times MONAI |\n|---|---|---|---|")
    volumes = np.random.default_rng(0).integers(0, 256, (options.batch, 1, *(options.edge,) * 3), np.uint8)
    print("\n".join(measure(volumes, options.device, options.rounds)))


if __name__ == "__main__":
    main()
