"""Is a validation set worth its labels where few are labelled? `medssl finetune --mode full` with one and without.

    python pipelines/validation_set.py breastmnist.npz medmnist_cpu [--labels 10pct 20pct 50pct] [--starts random pnnclr] [--table]

With one: a fifth of the drawn patients chooses one of ten moments of the training. Without: all drawn patients are trained on, and the
last weights are kept. Scored are the training images that were not drawn, at most 600 of them, so the choice between the two needs no
test image: AUROC, and the Brier score after temperature scaling, for which the validation set is needed, too. A run is one line
of the file of results, and what is in it is never run again: the script may be stopped at any time.
"""

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_pretraining import commit_here, encoder
from whole_network import CPU, STARTS, prepared

from medssl.data.split import parse_labels
from medssl.evaluate.label_draws import plan_draws
from medssl.evaluate.models import full_finetune
from medssl.evaluate.models.full_finetune import fit_full, predict
from medssl.evaluate.stats.calibration import apply_temperature
from medssl.evaluate.stats.metrics import METRICS, score

RESULTS = Path("benchmarks/results/validation_set.jsonl")
MAX_SCORED = 600
IDENTITY = ("path", "preset", "set", "steps", "start", "labels")


def compare(job: dict[str, Any], start: Any) -> dict[str, Any]:
    """The scores of each draw with and without a validation set, and how many labels a draw has."""
    found, question, training = prepared(job, [f"finetune.steps={job['steps']}"])
    ways = {"with": True, "without": False}
    scores: dict[str, Any] = {name: {metric: [] for metric in ("auroc", "brier")} for name in ways}
    draws = plan_draws(question, parse_labels(job["labels"]), training.settings.draws, seed=0)
    for draw in draws:
        left = np.setdiff1d(question.pool, draw.rows)
        scored = np.sort(np.random.default_rng(0).permutation(left)[:MAX_SCORED])
        for name, stops in ways.items():
            settings = training.settings.model_copy(update={"early_stopping": stops})
            fitted = fit_full(start, draw.rows, replace(training, settings=settings, seed=draw.number))
            prob = predict(fitted.classifier, found.store.inputs, scored, CPU).astype(np.float64)
            prob = apply_temperature(prob, fitted.temperature, question.multilabel)
            for metric, values in scores[name].items():
                values.append(round(score(question.y[scored], prob, {metric: METRICS[metric]})[metric], 4))
    return {"n_labels": len(draws[0].rows), **scores}


def table_of(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row for each amount of labels and start, the means over the draws, and the gain in AUROC with its standard error."""
    text = ["| data | labels | start | AUROC with | without | gain | Brier score with | without |", "|---|---|---|---|---|---|---|---|"]
    for line in lines:
        auroc, brier = (" | ".join(f"{np.mean(line[way][metric]):.3f}" for way in ("with", "without")) for metric in ("auroc", "brier"))
        gain = np.subtract(line["without"]["auroc"], line["with"]["auroc"])
        error = gain.std(ddof=1) / len(gain) ** 0.5
        text.append(f"| {line['path']} | {line['n_labels']} | {line['start']} | {auroc} | {gain.mean():+.3f} ± {error:.3f} | {brier} |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="a MedMNIST file, looked for in the folder in which the script is started")
    parser.add_argument("preset")
    parser.add_argument("--labels", nargs="+", default=["10pct", "20pct", "50pct"])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=["random", "pnnclr"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    options = parser.parse_args()
    os.environ.setdefault("MEDSSL_KEY_FILE", str(Path(__file__).with_name("public_site.key")))
    torch.set_num_threads(1)
    full_finetune.MIN_PATIENTS = 0  # with a validation set however few there are
    commit = commit_here()  # of the code that was loaded, whatever is committed while it runs
    lines = [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.exists() else []
    for start in options.starts if not options.table else ():
        job = {"path": options.data, "preset": options.preset, "set": options.set, "steps": options.steps, "start": start}
        wanted = [{**job, "labels": labels} for labels in options.labels]
        left = [one for one in wanted if not any(all(line[key] == one[key] for key in IDENTITY) for line in lines)]
        with tempfile.TemporaryDirectory() as scratch:
            network = encoder({**job, "settings": STARTS[start], "seed": 0}, Path(scratch) / "run")[0] if left else None
        for one in left:
            lines.append({**one, "commit": commit, **compare(one, network)})
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(json.dumps(lines[-1]), flush=True)
    print(table_of([line for line in lines if line["path"] == options.data]))


if __name__ == "__main__":
    main()
