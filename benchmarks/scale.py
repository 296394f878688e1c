"""What grows with the number of images and with the size of the model: the measured numbers of docs/explanation/scale.md.

    python benchmarks/scale.py [--files 20000] [--rows 100000 300000 1000000] [--pairs 10000 20000 40000] [--megabytes 400]

Each size runs in a process of its own, whose peak memory counts. Files are PNG of 64 pixels, prepared at 224, and a fifth as many phantom
DICOM of 512. Tables are generated: a label, 1.5 images a study and 2 studies a patient, keys as long as those of a store. Perceptual
hashes lie as close to one another as those of radiographs (0.2 % of pairs within 4 bits: medssl/data/split/near_duplicates.py). The state
of a training is that of the preset chest_xray (ResNet-50, pNNCLR, AdamW) with a support set of 65,536.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap
from PIL import Image

from medssl import methods
from medssl.config import merge, parse_overrides, resolve
from medssl.data.sources import dicom, phantom
from medssl.data.split import assignment, leaks, near_duplicates
from medssl.encoder.artefact import build_encoder
from medssl.runs.presets import load
from medssl.train import checkpoint, optimisers

CLOSE = 0.113  # the share of bits in which a hash differs from the middle of all


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """A store's table of that many rows."""
    rng = np.random.default_rng(seed)
    key = lambda what, numbers: pd.Series([sha256(f"{what}{number}".encode()).hexdigest() for number in numbers], dtype="str")  # noqa: E731
    studies = rng.integers(0, max(1, int(rows / 1.5)), rows)
    columns = {
        "key": key("sample", range(rows)),
        "patient": key("patient", studies // 2),
        "study": key("study", studies),
        "series": key("series", range(rows)),
        "site": pd.Series(["site"] * rows, dtype="str"),
        "split": pd.Series([""] * rows, dtype="str"),
        "pixel_hash": key("pixels", range(rows)),
        "perceptual_hash": pd.Series([f"{value:016x}" for value in hashes(rows, seed)], dtype="str"),
        "made": key("made", range(rows)),
        "bits": np.full(rows, 12, np.int32),
        "height": np.full(rows, 2048, np.int32),
        "width": np.full(rows, 2048, np.int32),
        "row_mm": np.full(rows, 0.14),
        "column_mm": np.full(rows, 0.14),
        "label:finding": pd.Series(rng.choice(["0", "1"], rows), dtype="str"),
    }
    return pd.DataFrame(columns)


def hashes(rows: int, seed: int) -> np.ndarray:
    """uint64 [rows]."""
    bits = np.random.default_rng(seed).random((rows, 64), np.float32) < CLOSE
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def memory() -> float:
    """The largest this process has been, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def of_files(files: int) -> dict[str, float]:
    """Preparing as one shard, joining the shards, and what the command takes where there is nothing to do; listing DICOM by headers."""
    with tempfile.TemporaryDirectory() as folder:
        pictures, dicoms = Path(folder, "png"), Path(folder, "dicom")
        pictures.mkdir()
        dicoms.mkdir()
        for number in range(files):
            image = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
            Image.fromarray(image).save(pictures / f"{number}.png", compress_level=1)
        settings = phantom.Config(size=512)
        phantom.header_and_pixels(next(phantom.exposures(settings)), settings).save_as(dicoms / "0.dcm", enforce_file_format=True)
        for number in range(1, files // 5):
            shutil.copy(dicoms / "0.dcm", dicoms / f"{number}.dcm")
        line = [sys.executable, "-m", "medssl", "prepare", "--data", str(pictures), "--preset", "chest_xray"]
        environment = os.environ | {"MEDSSL_CACHE": str(Path(folder, "cache"))}
        run = lambda *more: seconds(lambda: subprocess.run([*line, *more], env=environment, check=True, capture_output=True))  # noqa: E731
        shard, joined, nothing = run("--shard", "1/1"), run(), run()
        listed = seconds(lambda: dicom.build(dicom.Config(), str(dicoms)))
    return {
        "files": files,
        "shard s": shard,
        "join s": joined,
        "nothing to do s": nothing,
        "joined/s": files / (joined - nothing),
        "DICOM listed/s": files // 5 / listed,
    }


def of_rows(rows: int) -> dict[str, float]:
    """The table on disk and in memory; the split; the search for leaks without near duplicates; the order of an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.parquet"
        subprocess.run([sys.executable, __file__, "--write", str(file), str(rows)], check=True)
        size, before = file.stat().st_size, memory()
        loaded: list[pd.DataFrame] = []
        opened = seconds(lambda: loaded.append(pd.read_parquet(file, use_threads=False)))
    there, in_table = loaded[0], memory() - before
    roles: list[np.ndarray] = []
    assigned = seconds(lambda: roles.append(assignment.assign_roles(there, "finding", 0, 0.2)))
    held = seconds(lambda: assignment.choose_holdout(there, roles[0], "finding", 0, 0.1))
    no_near = there.drop(columns="perceptual_hash")
    found = seconds(lambda: leaks.find_leaks(no_near, np.empty((rows, 0)), roles[0]))
    order = seconds(lambda: np.random.default_rng(0).permutation(rows))
    return {
        "rows": rows,
        "file B/row": size / rows,
        "table B/row": in_table * 1e6 / rows,
        "peak B/row": (memory() - before) * 1e6 / rows,
        "read s": opened,
        "split s": assigned + held,
        "leaks s": found,
        "order s": order,
    }


def of_pairs(rows: int) -> dict[str, float]:
    """Near duplicates between four fifths of the images and one fifth, each of 32 x 32 pixels."""
    some, cut = hashes(rows, 1), rows * 4 // 5
    with tempfile.TemporaryDirectory() as folder:
        images = open_memmap(Path(folder) / "images.npy", "w+", np.uint8, (rows, 1, 32, 32))
        images[:] = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
        blocks: list[np.ndarray] = []
        looked_up = seconds(lambda: blocks.extend(near_duplicates.near_pairs(some[:cut], some[cut:])))
        pairs = sum(map(len, blocks))
        compared = seconds(lambda: near_duplicates.confirm_pairs(images, (block + np.array([0, cut]) for block in blocks)))
    return {"images": rows, "pairs": pairs, "look-up s": looked_up, "comparison s": compared, "peak MB": memory()}


def of_checkpoint(megabytes: int) -> dict[str, float]:
    """A state of so many megabytes, saved and loaded, here (--folder) and without the disk."""
    state = {"step": 1, "method": {str(part): torch.randn(250_000) for part in range(megabytes)}}
    before = memory()
    with tempfile.TemporaryDirectory(dir=ARGUMENTS.folder) as folder:
        saved = min(seconds(lambda: checkpoint.save(Path(folder), state)) for _ in range(3))
        size = (Path(folder) / checkpoint.LAST).stat().st_size
        extra = memory() - before
        loaded = seconds(lambda: checkpoint.load(Path(folder)))
    return {"MB": size / 1e6, "save s": saved, "load s": loaded, "save MB/s": size / 1e6 / saved, "memory for saving MB": extra}


def of_training(support: int) -> dict[str, float]:
    """Parameters that are trained, normalisations, and the bytes of a checkpoint's tensors."""
    config = resolve(merge(load("chest_xray"), parse_overrides([f"method.support_size={support}"])))
    encoder = build_encoder(config.backbone.model_dump(), 1, 224, torch.zeros(1), torch.ones(1), 0)
    method: Any = methods.build(methods.fit_to(config.method, 10**6, 10**6), encoder, 0)
    optimiser = optimisers.make("adamw", method, 1e-3, 0.05)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    moments = [value for state in optimiser.state.values() for value in state.values()]
    return {
        "trained parameters": sum(p.numel() for p in trained),
        "normalisations": sum(hasattr(part, "running_mean") for part in method.modules()),
        "method MB": sum(value.nbytes for value in method.state_dict().values()) / 1e6,
        "optimiser MB": sum(value.nbytes for value in moments) / 1e6,
    }


def shown(results: list[dict[str, float]]) -> str:
    head = "| " + " | ".join(results[0]) + " |\n|" + "---|" * len(results[0])
    return "\n".join([head, *("| " + " | ".join(f"{value:.4g}" for value in row.values()) + " |" for row in results)])


def apart(kind: str, number: int) -> dict[str, float]:
    """What `of_<kind>(number)` returns in a new process."""
    line = [sys.executable, __file__, "--one", kind, str(number), "--folder", ARGUMENTS.folder]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="*", default=[20_000])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--pairs", type=int, nargs="*", default=[10_000, 20_000, 40_000])
    parser.add_argument("--megabytes", type=int, nargs="*", default=[400])
    parser.add_argument("--support", type=int, nargs="*", default=[65_536])
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the checkpoint is written")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    ARGUMENTS = arguments()
    kinds = {"files": of_files, "rows": of_rows, "pairs": of_pairs, "megabytes": of_checkpoint, "support": of_training}
    if ARGUMENTS.write:
        table(int(ARGUMENTS.write[1])).to_parquet(ARGUMENTS.write[0])
    elif ARGUMENTS.one:
        print(json.dumps(kinds[ARGUMENTS.one[0]](int(ARGUMENTS.one[1]))))
    else:
        for kind in kinds:
            if numbers := getattr(ARGUMENTS, kind):
                print(shown([apart(kind, number) for number in numbers]), end="\n\n", flush=True)
