"""Files a second of `medssl prepare`, beside a plain loop over pydicom or Pillow in one process, and beside the decoding alone.

    python benchmarks/prepare.py [--files 1500] [--rounds 2]        # speed, on real radiographs where ../shared/data has them
    python benchmarks/prepare.py --memory 1000 10000 100000         # the peak memory of the command over the number of files

The plain loop is what one would write: read the file, window and scale it, shrink it to 224 pixels, collect it in an array. The
decoding alone is `pixel_array` or Pillow's `load`. As many loops as cores say what the machine gives beyond one core. All run in one
go, in turn, `rounds` times; the best of each counts.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
SIZE = 224


def radiographs(folder: Path, files: int, kinds: list[str]) -> dict[str, Path]:
    """Folders of `files` chest DICOM files (8 bits 1024 x 1024, and 10 bits MONOCHROME1 440 x 440) and PNG files of 1024 x 1024."""
    dicoms = [SHARED / "dicom/chest/nih_dx.dcm", SHARED / "dicom/chest/CR-MONO1-10-chest.dcm"]
    pngs = sorted((SHARED / "chestxray/nih_originals_1024").rglob("*.png"))
    originals_of = {"dicom": dicoms, "png": pngs}
    for kind in kinds:
        originals = originals_of[kind]
        (folder / kind).mkdir()
        for number in range(files):
            original = originals[number % len(originals)]
            shutil.copy(original, folder / kind / f"{number}{original.suffix}")
    return {kind: folder / kind for kind in kinds}


def loop(folder: Path) -> np.ndarray:
    """The plain loop: uint8 [N, 224, 224]."""
    return np.stack([_small(_pixels(file)) for file in sorted(folder.iterdir())])


def loops(folder: Path) -> None:
    """As many plain loops at once as there are cores, each over its share: what the machine gives beyond one core."""
    files, cores = sorted(folder.iterdir()), os.cpu_count() or 1
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        pool.map(_loop_over, [files[share::cores] for share in range(cores)])


def _loop_over(files: list[Path]) -> None:
    for file in files:
        _small(_pixels(file))


def decode(folder: Path) -> None:
    """The decoding alone."""
    for file in sorted(folder.iterdir()):
        if file.suffix == ".dcm":
            _ = pydicom.dcmread(file).pixel_array
        else:
            with Image.open(file) as picture:
                picture.load()


def prepare(folder: Path) -> None:
    """What `medssl prepare` does, from listing to the store with its audit, the start of its processes included."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"MEDSSL_CACHE": cache}
        command = [sys.executable, "-m", "medssl", "prepare", "--data", str(folder), "--preset", "chest_xray"]
        subprocess.run(command, check=True, capture_output=True, env=environment)


def _pixels(file: Path) -> np.ndarray:
    if file.suffix != ".dcm":
        with Image.open(file) as picture:
            return np.asarray(picture.convert("L"), np.float32) / 255
    data = pydicom.dcmread(file)
    values = np.asarray(apply_voi_lut(apply_modality_lut(data.pixel_array, data), data), np.float32)
    values = (values - values.min()) / max(values.max() - values.min(), 1)
    return 1 - values if data.PhotometricInterpretation == "MONOCHROME1" else values


def _small(image: np.ndarray) -> np.ndarray:
    scale = SIZE / max(image.shape)
    shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.asarray(Image.fromarray(image.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR))
    full = np.zeros((SIZE, SIZE), np.float32)
    full[: small.shape[0], : small.shape[1]] = small
    return np.rint(full * 255).astype(np.uint8)


def speed(files: int, rounds: int, kinds: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for kind, folder in radiographs(Path(temporary), files, kinds).items():
            seconds = {function.__name__: [] for function in (prepare, loop, loops, decode)}
            for _ in range(rounds):
                for function in (prepare, loop, loops, decode):
                    seconds[function.__name__].append(_seconds(function, folder))
            best = {name: files / min(values) for name, values in seconds.items()}
            rates = ", ".join(f"{name} {rate:.0f}" for name, rate in best.items())
            ratio, limit = best["prepare"] / best["loop"], best["loops"] / best["loop"]
            print(f"{kind:6} files a second: {rates}; prepare / loop {ratio:.2f}, {os.cpu_count()} loops / loop {limit:.2f}", flush=True)


def _seconds(function: Callable[[Path], object], folder: Path) -> float:
    began = time.perf_counter()
    function(folder)
    return time.perf_counter() - began


def memory(counts: list[int]) -> None:
    """The peak of the command's own process and of its largest worker, over the number of files (64 x 64 PNG)."""
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "data")
            folder.mkdir()
            draw = np.random.default_rng(0)
            for number in range(count):
                Image.fromarray(draw.integers(0, 256, (64, 64), np.uint8)).save(folder / f"{number:06}.png", compress_level=1)
            began = time.perf_counter()
            code = f"from prepare import measured; measured({str(folder)!r})"
            environment = os.environ | {"MEDSSL_CACHE": str(Path(temporary, "cache"))}
            here = Path(__file__).resolve().parent
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, cwd=here)
            found = json.loads(done.stdout.splitlines()[-1])
            rate = count / (time.perf_counter() - began)
            print(f"{count:7} files: peak {found['self']:.0f} MB, worker {found['worker']:.0f} MB, {rate:.0f} files a second", flush=True)


def measured(folder: str) -> None:
    """Prepares a folder in this process, and prints the peak memory as JSON."""
    from medssl.commands.prepare import prepare as command
    from medssl.console import Console
    from medssl.data.workers import pool

    with Console() as console:
        command(console, data=folder, preset="medmnist", sets=["data.size=64"])
    pool.end_workers()
    peaks = {
        name: resource.getrusage(who).ru_maxrss / 1024
        for name, who in (("self", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN))
    }
    print(json.dumps(peaks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=["dicom", "png"], default=["dicom", "png"])
    parser.add_argument("--memory", type=int, nargs="+", metavar="FILES")
    given = parser.parse_args()
    memory(given.memory) if given.memory else speed(given.files, given.rounds, given.kinds)
