"""What a label-fraction study costs, in passes of the encoder over the data: all cells at once, and as one run for each cell.

    python benchmarks/study_cost.py --data STORE [--model resnet50] [--size 224] [--labels 1pct,10pct,100pct] [--each 2]

STORE: what `medssl prepare --out` wrote, of images of that size with a label column of two classes. An encoder with random weights does:
time does not depend on them. The study fits 3 fractions of 5 draws (of 100pct one: all draws are the same labels) with one encoder and
the raw-pixel floor beside it, with all scores and intervals. `--each`: how many of the cells are also run by themselves, as a training
run per cell would; their mean is taken for all.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medssl.config import Data, Finetune
from medssl.data.cache import cache_folder
from medssl.data.split import find_split, parse_labels
from medssl.data.store import Store
from medssl.encoder.artefact import build_encoder
from medssl.evaluate import define_task, label_columns
from medssl.evaluate.experiment import Experiment, run_experiment
from medssl.evaluate.label_draws import plan_draws
from medssl.evaluate.models import extract

CPU = torch.device("cpu")


def request(store: Store, model: str, size: int, labels: str) -> Experiment:
    column = label_columns(store.table)
    found = find_split(store, column[0], Data(size=size, leaks="drop"), cache_folder())
    channels = store.images.shape[1]
    mean, std = torch.full((channels,), 0.5), torch.full((channels,), 0.25)
    encoder = build_encoder({"name": "timm", "model": model}, channels, size, mean, std, seed=0)
    fractions, settings = parse_labels(labels), Finetune(labels=labels)
    return Experiment(
        store.inputs, store.table, define_task(store.table, column, found.roles), {"pretrained": encoder}, fractions, settings, 0, CPU
    )


def a_pass(asked: Experiment) -> None:
    extract(asked.inits["pretrained"], asked.images, np.arange(len(asked.images)), asked.device)


def seconds_of(work: Callable[[Experiment], object], asked: Experiment) -> np.ndarray:
    """Of the clock, and of the processor, which a busy machine does not change."""
    began = np.array([time.perf_counter(), time.process_time()])
    work(asked)
    return np.array([time.perf_counter(), time.process_time()]) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--labels", default="1pct,10pct,100pct")
    parser.add_argument("--each", type=int, default=2)
    options = parser.parse_args()
    asked = request(Store.open(options.data), options.model, options.size, options.labels)
    draws = plan_draws(asked.task, asked.fractions, asked.settings.draws, asked.seed)
    cells = [draw for draw in draws if draw.number == 0 or len(draw.rows) < len(asked.task.pool)]
    one = seconds_of(a_pass, asked)
    whole = seconds_of(run_experiment, asked)
    chosen = [cells[i] for i in np.linspace(0, len(cells) - 1, options.each).astype(int)]  # of all fractions
    alone = [seconds_of(run_experiment, replace(asked, fractions=[draw.wanted], settings=Finetune(draws=1))) for draw in chosen]
    print(f"{options.model}, {options.size} px, {len(asked.images)} images, {len(cells)} cells, {torch.get_num_threads()} threads\n")
    print("| what | s | passes | CPU s | passes |\n|---|---|---|---|---|")
    rows = {"one pass of the encoder": one, "the study": whole}
    if alone:
        rows[f"a run per cell, {len(alone)} of them measured"] = np.mean(alone, axis=0) * len(cells)
    for what, spent in rows.items():
        (wall, cpu), (walls, cpus) = spent, spent / one
        print(f"| {what} | {wall:.1f} | {walls:.2f} | {cpu:.1f} | {cpus:.2f} |", flush=True)


if __name__ == "__main__":
    main()
