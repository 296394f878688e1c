"""What an image, the memory and the start of a training cost as the store grows: from 1,000 to 1,000,000 images.

    python benchmarks/flat.py [--images 1000 10000 100000 1000000] [--steps 150]

Stores of noise, 28 pixels, grey, with a table like a hospital's (benchmarks/scale.py). Each size trains a quarter-width ResNet-18 with
pNNCLR, batches of 64, in processes of its own: a first start finds the split and what leaks, a second one, measured too, reads them.
Batches are spread over the whole store; its file is in the page cache. Memory: the process's own (RssAnon), without the mapped file.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from scale import table

from medssl.config import Data
from medssl.console import Console
from medssl.data.image_hash import dhash, pixel_hash
from medssl.data.store import SETTINGS, STORE_FORMAT
from medssl.pretraining.trainer import build_training
from medssl.runs.dataset import prepare_dataset
from medssl.runs.resolve_config import flags_and_sets, resolve_config
from medssl.train.loop import Plan, fit
from medssl.train.processes import join_team

EDGE, BATCH = 28, 64
NETWORK = ("backbone.arguments={channels: [16, 32, 64, 128]}", "method.hidden=128", "method.width=64", "method.support_size=256")
TRAIN = (f"train.batch_size={BATCH}", "train.workers=0", "train.precision=fp32", "tracking.mlflow=false")


def generated(folder: Path, rows: int) -> None:
    """A store of so many images."""
    images = open_memmap(folder / "images.npy", "w+", np.uint8, (rows, 1, EDGE, EDGE))
    rng = np.random.default_rng(0)
    for start in range(0, rows, 50_000):
        images[start : start + 50_000] = rng.integers(0, 256, (min(50_000, rows - start), 1, EDGE, EDGE), np.uint8)
    images.flush()
    kept = table(rows)
    kept["bits"] = np.int32(8)
    kept["pixel_hash"] = [pixel_hash(image, 8) for image in images]
    kept["perceptual_hash"] = [f"{dhash(image):016x}" for image in images]
    kept.to_parquet(folder / "table.parquet")
    card = {
        "format": STORE_FORMAT,
        "shape": list(images.shape),
        "dtype": str(images.dtype),
        "table_sha256": hashlib.sha256((folder / "table.parquet").read_bytes()).hexdigest(),
        "settings": {name: Data(size=EDGE, channels=1).model_dump(mode="json")[name] for name in SETTINGS},
        "counts": {"skipped": {}},
        "source": "generated",
        "fingerprint": "generated",
    }
    (folder / "card.json").write_text(json.dumps(card))


def own_mib() -> float:
    """Of this process alone, in MiB (Linux)."""
    return float(Path("/proc/self/status").read_text("utf-8").partition("RssAnon:")[2].split()[0]) / 1024


def trained(folder: Path, steps: int) -> dict[str, float]:
    """One training: seconds from data to the first step, milliseconds an image in the steps after it, and memory."""
    began, console, device = time.perf_counter(), Console(rank=1), torch.device("cpu")
    sets = [*NETWORK, *TRAIN, f"train.steps={steps}"]
    config, source = resolve_config(console, str(folder), "medmnist_cpu", flags_and_sets("pnnclr", None, "cpu", sets))
    with join_team(device) as us, tempfile.TemporaryDirectory() as place:
        job = build_training(Path(place), config, prepare_dataset(source, config, console), us)
        plan, batches = Plan(steps, 1e-3, 0, device), iter(job.feed)
        fit(job.method, [next(batches)], job.optimiser, plan)
        first = time.perf_counter()
        fit(job.method, batches, job.optimiser, plan, start=1)
        each = (time.perf_counter() - first) / (BATCH * (steps - 1))
    return {"s to the first step": first - began, "ms an image": 1e3 * each, "memory, MiB": own_mib()}


def apart(folder: Path, steps: int, cache: Path) -> dict[str, float]:
    line = [sys.executable, __file__, "--one", str(folder), "--steps", str(steps)]
    environment = os.environ | {"MEDSSL_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(trained(options.one, options.steps)))
        return
    head = ("images", "first start, s", "later start, s", "ms an image", "times that of the first row", "memory, MiB")
    print("| " + " | ".join(head) + " |\n" + len(head) * "|---" + "|")
    smallest = 0.0
    for rows in options.images:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder, "store")
            store.mkdir()
            generated(store, rows)
            once, again = (apart(store, options.steps, Path(folder, "cache")) for _ in range(2))
        each = min(once["ms an image"], again["ms an image"])
        smallest = smallest or each
        starts = f"{once['s to the first step']:.1f} | {again['s to the first step']:.1f}"
        print(f"| {rows:,} | {starts} | {each:.2f} | {each / smallest:.2f} | {again['memory, MiB']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
