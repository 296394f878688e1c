"""The settings of `medssl finetune --mode full`, compared: from a random start and from a pretrained encoder.

    python pipelines/whole_network.py breastmnist.npz medmnist_cpu [--seeds 0 1 2] [--starts random pnnclr] [--recipes RECIPE...]
        [--labels 10pct] [--set SETTING...] [--table]

Each recipe of RECIPES gets the same effort from both starts. A recipe is to be chosen by the official validation images, which no training
sees, except that of the recipe with all labels; the scores of the test images stand beside, to be compared with published ones. With
--labels each seed has its own draw of labels, and the training images that were not drawn are the validation images. A run is one line
of the file of results, and what is in it is never run again: the script may be stopped at any time. --set: settings of all runs, such as
a wider backbone.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_pretraining import Quiet, commit_here, configured, encoder

from medssl.commands.finetune import views_of
from medssl.data.split import parse_labels
from medssl.evaluate.label_draws import plan_draws
from medssl.evaluate.models.full_finetune import FullTraining, fit_full, predict
from medssl.evaluate.stats.metrics import METRICS
from medssl.evaluate.task import Task, define_task, label_columns
from medssl.runs.dataset import PreparedDataset, prepare_dataset

CPU = torch.device("cpu")
STARTS = {
    "random": ["random"],
    "pnnclr of NNCLR": ["method.base=nnclr", "method.delay=0.2", "method.ramp=0.6"],  # the former default
    "pnnclr": [],
}
RECIPES = {
    "300 steps": ["finetune.steps=300"],
    "300 steps, rate 1e-4": ["finetune.steps=300", "finetune.lr=1e-4"],
    "1000 steps": ["finetune.steps=1000"],
    "1000 steps, rate 2e-4": ["finetune.steps=1000", "finetune.lr=2e-4"],
    "1000 steps, rate 1e-4": ["finetune.steps=1000", "finetune.lr=1e-4"],
    "2000 steps": ["finetune.steps=2000"],
    "2000 steps, crops from 0.7": ["finetune.steps=2000", "views.recipe.crop_area=[0.7,1]"],
    "2000 steps, all layers alike": ["finetune.steps=2000", "finetune.layer_decay=1"],  # a random start has no other rates
    "2000 steps, all labels": ["finetune.steps=2000"],
}
ONLY_PRETRAINED = ("2000 steps, all layers alike",)
# Those of the official validation images, too: published trainings see them when they choose the epoch.
ALL_LABELS = "2000 steps, all labels"
RESULTS = Path("benchmarks/results/whole_network.jsonl")


def prepared(job: dict[str, Any], settings: list[str]) -> tuple[PreparedDataset, Task, FullTraining]:
    """The images of a job, the task of their labels, and how the whole network is trained with these settings from the job's start."""
    config, source = configured(job, settings)
    found = prepare_dataset(source, config, Quiet())
    question = define_task(found.store.table, label_columns(found.store.table, config.data.label), found.roles)
    training = FullTraining(
        found.store.inputs,
        question.y,
        question.patients,
        len(question.classes),
        config.finetune,
        views_of(config),
        CPU,
        layer_decay=1 if job["start"] == "random" else config.finetune.layer_decay,
    )
    return found, question, training


def trained(job: dict[str, Any], start: Any) -> dict[str, Any]:
    """The scores of the encoder `start` after the training of a recipe."""
    found, question, training = prepared(job, RECIPES[job["recipe"]])
    parts = {"validation": np.flatnonzero((found.roles == "val") & (question.y >= 0)), "test": question.test}
    pool = question.pool
    if job["labels"] != "100pct":
        pool = plan_draws(question, parse_labels(job["labels"]), job["seed"] + 1, seed=0)[job["seed"]].rows
        parts["validation"] = np.setdiff1d(question.pool, pool)
    if job["recipe"] == ALL_LABELS:
        pool = np.union1d(pool, parts.pop("validation"))
    began = time.monotonic()
    fitted = fit_full(start, pool, replace(training, seed=job["seed"]))
    line: dict[str, Any] = {"seconds": round(time.monotonic() - began), "step": fitted.step}
    for name, rows in parts.items():
        prob = predict(fitted.classifier, found.store.inputs, rows, CPU).astype(np.float64)
        scores = {metric: METRICS[metric](question.y[rows], prob, np.ones((1, len(rows))))[0] for metric in ("auroc", "accuracy")}
        line[name] = {metric: round(float(score), 4) for metric, score in scores.items()}
    return line


def table_of(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row for each start and recipe, the means over the seeds, with the standard error where there are several."""
    text = ["| start | recipe | seeds | validation AUROC | test AUROC | test accuracy |", "|---|---|---|---|---|---|"]
    for start in STARTS:
        for recipe in RECIPES:
            if runs := [line for line in lines if (line["start"], line["recipe"]) == (start, recipe)]:
                cells = []
                for part, metric in (("validation", "auroc"), ("test", "auroc"), ("test", "accuracy")):
                    values = np.array([run[part][metric] for run in runs if part in run])
                    error = f" ± {values.std(ddof=1) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
                    cells.append(f"{values.mean():.3f}{error}" if len(values) else "")
                text.append(f"| {start} | {recipe} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="a MedMNIST file, looked for in the folder in which the script is started")
    parser.add_argument("preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=["random", "pnnclr"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--labels", default="100pct")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    options = parser.parse_args()
    os.environ.setdefault("MEDSSL_KEY_FILE", str(Path(__file__).with_name("public_site.key")))
    torch.set_num_threads(1)
    commit = commit_here()  # of the code that was loaded, whatever is committed while it runs
    recipes = [name for name in options.recipes if options.labels == "100pct" or name != ALL_LABELS]
    of_data = {"path": options.data, "preset": options.preset, "set": options.set, "labels": options.labels}

    def there() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.exists() else []
        return [line for line in lines if all(line[key] == value for key, value in of_data.items())]

    for seed in options.seeds if not options.table else ():
        for start in options.starts:
            done = {line["recipe"] for line in there() if (line["start"], line["seed"]) == (start, seed)}
            left = [name for name in recipes if name not in done and (start != "random" or name not in ONLY_PRETRAINED)]
            job = {**of_data, "start": start, "settings": STARTS[start], "seed": seed}
            with tempfile.TemporaryDirectory() as scratch:
                network = encoder(job, Path(scratch) / "run")[0] if left else None
            for recipe in left:
                line = {**job, "recipe": recipe, "commit": commit, **trained({**job, "recipe": recipe}, network)}
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(start, seed, recipe, line.get("validation"), line["test"], flush=True)
    print(table_of(there()))


if __name__ == "__main__":
    main()
