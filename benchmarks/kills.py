"""Kills a training (SIGKILL) at random moments and resumes it, each time with another number of loader workers, until it is done; then its
state must be, bit for bit, that of a run that nobody disturbed.

    python benchmarks/kills.py [--kills 20] [--runs 4]

Pictures of noise, a narrow ResNet-18, pNNCLR, one thread: what is tried is the going on, not the learning. Prints a table; exit code 1
where a bit differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medssl.train import checkpoint

SETTINGS = (
    "data.size=16",
    "backbone.stem=small",
    "backbone.arguments={channels: [8, 8, 16, 16]}",
    "method.hidden=32",
    "method.width=16",
    "method.support_size=37",  # no multiple of the batch: the place in the set matters at every step
    "train.batch_size=8",
    "train.steps=200",
    "train.save_every_steps=3",
    "monitor.log_every_steps=1",
    "monitor.knn_every_epochs=100",
    "tracking.mlflow=false",
)
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums are added up in one order


def command(*arguments: str, sets: Sequence[str] = ()) -> list[str]:
    return [sys.executable, "-m", "medssl", "pretrain", *arguments, *(part for item in sets for part in ("--set", item))]


def told(folder: Path) -> int:
    """How many steps metrics.jsonl tells of."""
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def killed_after(steps: int, folder: Path, arguments: list[str], number: signal.Signals = signal.SIGKILL, wait: float = 0.0) -> int:
    """Start the command, send the signal `wait` seconds after metrics.jsonl has told of so many steps, and return the exit code."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ONE_THREAD)
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        if told(folder) >= steps:
            time.sleep(wait)
            process.send_signal(number)
            break
        time.sleep(0.002)
    return process.wait(timeout=60)


def state(folder: Path) -> dict[str, torch.Tensor]:
    """All that the method is at its last checkpoint."""
    return checkpoint.load(folder)[0]["method"]


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """The names of what is not the same bits."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def pictures(root: Path) -> Path:
    """60 small grey pictures of noise."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for number in range(60):
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(root / f"{number:03}.png")
    return root


def disturbed(folder: Path, data: Path, kills: int, chance: random.Random) -> list[int]:
    """Trains in `folder` to the end, with kills at random moments; returns the steps that had been told at each."""
    arguments, at = command("--data", str(data), "--out", str(folder), sets=SETTINGS), []
    for number in range(kills):
        after = told(folder) + chance.randint(4, max(5, (190 - told(folder)) // (kills - number)))
        if killed_after(after, folder, arguments, wait=chance.random() * 0.05) == -signal.SIGKILL:
            at.append(told(folder))
        arguments = command("--resume", str(folder), sets=[f"train.workers={chance.randrange(3)}"])
    subprocess.run(arguments, check=True, capture_output=True, env=ONE_THREAD, timeout=300)
    return at


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20, help="in all runs together")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311
    print(f"seed {options.seed}\n\n| run | killed after step | entries of the state that differ |\n|---|---|---|", flush=True)
    wrong, kills = 0, 0
    with tempfile.TemporaryDirectory() as place:
        data, calm = pictures(Path(place) / "pictures"), Path(place) / "calm"
        subprocess.run(command("--data", str(data), "--out", str(calm), sets=SETTINGS), check=True, capture_output=True, env=ONE_THREAD)
        for number in range(options.runs):
            folder = Path(place) / f"run{number}"
            at = disturbed(folder, data, -(-options.kills // options.runs), chance)
            different = differing(state(folder), state(calm))
            print(f"| {number} | {', '.join(map(str, at))} | {len(different)} of {len(state(calm))} |", flush=True)
            kills, wrong = kills + len(at), wrong + len(different)
    print(f"\n{kills} kills, {options.runs} runs, {'all the same bits' if not wrong else 'NOT THE SAME'}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
