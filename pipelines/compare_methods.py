"""All methods on PneumoniaMNIST and BreastMNIST with one small budget: a smoke test of the comparison, not the comparison.

    python pipelines/compare_methods.py --data pneumoniamnist.npz breastmnist.npz [--out runs/compare] [--jobs 2]

Every method gets the same encoder, images, batches, views, optimiser, learning rate and number of steps, and is trained on the official
training images only; a frozen encoder is then scored once on the official test images with all training labels, by kNN (20 neighbours,
cosine, weights exp(s / 0.07)) and by logistic
regression with a fixed penalty. Then each method trains for a few steps alone on the machine, for the seconds
that a step takes and by how much the process grows. What is in results.jsonl is not run again. The table is written to table.md: mean
and standard deviation over the seeds, and the cost.
"""

import argparse
import json
import os
import platform
import re
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

METHODS = ["supervised", "pnnclr", "pnnclr_paper", "nnclr", "simclr", "dcl", "moco", "byol", "simsiam", "barlow", "vicreg", "dino"]
FLOORS = ["random", "pixels"]  # an encoder that has seen nothing; no encoder at all
BACKBONE = {"stem": "own", "arguments": {"channels": [16, 32, 64, 128]}}  # a quarter-width ResNet-18
SETTINGS = {
    **{f"backbone.{key}": json.dumps(value) for key, value in BACKBONE.items()},
    "train.lr": "2e-3",
    "train.warmup_epochs": "1",
    "train.workers": "0",
    "train.save_every_steps": "100000",
    "monitor.knn_every_epochs": "100000",
    "monitor.on_collapse": "warn",
    "tracking.mlflow": "false",
}
HIDDEN = 512
COST_STEPS = 50
SCORES = {"knn_auroc": "kNN AUROC", "knn_accuracy": "kNN accuracy", "auroc": "linear AUROC", "accuracy": "linear accuracy"}


class Quiet:
    """A reporter that keeps warnings and says nothing."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        pass


def cell(job: dict[str, Any]) -> dict[str, Any]:
    """One method, data set and seed: trained and scored. Runs in a process of its own."""
    import torch

    torch.set_num_threads(job["threads"])
    quiet = Quiet()
    found: dict[str, Any] = {}
    if job["method"] not in FLOORS:
        found["loss"] = trained(quiet, job)[-1]["loss"]
    return {**job, **found, **scores(job), "warnings": quiet.warnings}


def cost(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds per step and growth of the process, in a process of its own with the machine to itself."""
    from medssl.commands import pretrain  # imported before memory is measured

    assert pretrain
    before = resident_mib(peak=False, reset=True)
    speeds = [row["images_per_second"] for row in trained(Quiet(), job)]
    return {**job, "seconds_per_step": job["batch_size"] / statistics.median(speeds), "mib": resident_mib(peak=True) - before}


def trained(quiet: Quiet, job: dict[str, Any]) -> list[dict[str, float]]:
    """The rows of metrics.jsonl that say how a pretraining went, ten steps apart."""
    from medssl.commands.pretrain import pretrain

    lines = (pretrain(quiet, **command(job)) / "metrics.jsonl").read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if "loss" in row]


def command(job: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `medssl pretrain`."""
    from medssl import plugins

    options = plugins.find("methods", job["method"]).Config.model_fields
    sets = {**SETTINGS, "train.steps": job["steps"], "train.batch_size": job["batch_size"]}
    sets |= {f"method.{name}": size for name, size in (("hidden", HIDDEN), ("support_size", job["support_size"])) if name in options}
    return {
        "data": job["data"],
        "method": job["method"],
        "preset": "medmnist_cpu",
        "seed": job["seed"],
        "out": Path(job["folder"]),
        "overwrite": True,
        "sets": [f"{key}={value}" for key, value in sets.items()],
    }


def scores(job: dict[str, Any]) -> dict[str, float]:
    """Of the frozen encoder on the official test images, from all training labels."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from medssl.encoder import artefact
    from medssl.evaluate import task
    from medssl.evaluate.models import Pixels, extract
    from medssl.evaluate.models.linear_probe import USUAL_C
    from medssl.evaluate.stats import metrics
    from medssl.runs.dataset import channel_statistics, prepare_dataset
    from medssl.runs.resolve_config import resolve_config

    quiet = Quiet()
    config, source = resolve_config(quiet, job["data"], "medmnist_cpu", {})
    found = prepare_dataset(source, config, quiet)
    table, images = found.store.table, found.store.images
    question = task.define_task(table, task.label_columns(table), found.roles)
    if job["method"] == "random":
        backbone = config.backbone.model_dump() | BACKBONE
        mean, std = channel_statistics(found.store, found.pretraining)
        network = artefact.build_encoder(backbone, config.data.channels, config.data.size, mean, std, job["seed"])
    elif job["method"] == "pixels":
        network = Pixels()
    else:
        network, _ = artefact.load(Path(job["folder"]))
    train, test = (extract(network, images, rows, torch.device("cpu")) for rows in (question.pool, question.test))
    y, truth = question.y[question.pool], question.y[question.test]
    knn = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))  # pyright: ignore
    knn.fit(train, y)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=USUAL_C, max_iter=1000)).fit(train, y)
    linear = metrics.score(truth, probe.predict_proba(test))
    near = metrics.score(truth, np.asarray(knn.predict_proba(test)))
    return {name: (near if name.startswith("knn_") else linear)[name.removeprefix("knn_")] for name in SCORES}


def resident_mib(peak: bool, reset: bool = False) -> float:
    """The process's resident set, now or at its peak since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    key = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert found
    return int(found[1]) / 1024


def table(cells: list[dict[str, Any]], costs: dict[str, dict[str, Any]], data: str) -> str:
    """Markdown: a row a method, in the order of the linear probe's AUROC."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for found in cells:
        if found["data_name"] == data:
            by_method.setdefault(found["method"], []).append(found)
    lines = [f"| method | {' | '.join(SCORES.values())} | s/step | MiB |", f"|---|{'---|' * (len(SCORES) + 2)}"]
    for name, of in sorted(by_method.items(), key=lambda item: -statistics.mean(c["auroc"] for c in item[1])):
        values = [spread([c[score] for c in of]) for score in SCORES]
        values += [f"{costs[name]['seconds_per_step']:.3f}", f"{costs[name]['mib']:.0f}"] if name in costs else ["", ""]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def job(options: argparse.Namespace, data: str, method: str, seed: int, **other: Any) -> dict[str, Any]:
    name = Path(data).stem.rpartition(":")[2]
    return {
        "data": data,
        "data_name": name,
        "method": method,
        "seed": seed,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "support_size": options.support_size,
        "threads": max(1, (os.cpu_count() or 1) // options.jobs),
        "folder": str(options.out / name / f"{method}-{seed}"),
        **other,
    }


def carried_out(
    work: Callable[[dict[str, Any]], dict[str, Any]], wanted: list[dict[str, Any]], log: Path, together: int
) -> list[dict[str, Any]]:
    """What `work` makes of every job, from the log where it is there. Each job gets a fresh process."""
    known = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    done = [found for found in known if any(job.items() <= found.items() for job in wanted)]
    left = [job for job in wanted if not any(job.items() <= found.items() for found in done)]
    with ProcessPoolExecutor(together, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        try:
            for future in as_completed([pool.submit(work, job) for job in left]):
                done.append(found := future.result())
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
                print(f"{work.__name__} {len(done)}/{len(wanted)}: {found['data_name']} {found['method']} {found['seed']}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", nargs="+", default=["medmnist:pneumoniamnist", "medmnist:breastmnist"])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--support-size", type=int, default=256)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    methods = [*FLOORS, *options.methods]
    wanted = [job(options, d, m, s) for s in range(options.seeds) for d in options.data for m in methods if s == 0 or m != "pixels"]
    cells = carried_out(cell, wanted, options.out / "results.jsonl", options.jobs)
    alone = {"steps": COST_STEPS, "threads": os.cpu_count() or 1, "folder": str(options.out / "cost")}
    measured = [job(options, options.data[0], m, 0, **alone) for m in options.methods]
    costs = {found["method"]: found for found in carried_out(cost, measured, options.out / "cost.jsonl", together=1)}
    head = f"{options.steps} steps of {options.batch_size} images, {options.seeds} seeds, {platform.processor() or platform.machine()}"
    names = dict.fromkeys(found["data_name"] for found in wanted)
    text = f"{head}\n\n" + "\n\n".join(f"## {name}\n\n{table(cells, costs, name)}" for name in names) + "\n"
    (options.out / "table.md").write_text(text, "utf-8")
    print(f"\n{text}")


if __name__ == "__main__":
    main()
