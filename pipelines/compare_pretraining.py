"""Ways of pretraining side by side, each on several data sets and from several seeds: the runs behind docs/pnnclr.md.

    python pipelines/compare_pretraining.py pipelines/neighbours.yaml [--jobs 2] [--only DATA...] [--table]

The YAML names the data sets (what --data names, a preset, settings, perhaps more variants), the variants, the labels and the seeds. A
variant is a list of settings; with "random" among them the network is not trained, "pixels" alone is no network, "frozen=FILE" alone is a
network with the weights of a file, not trained, and "weights=FILE" the same, which sees the images enlarged to 224 pixels. Each encoder is
scored as `medssl finetune` scores it in the modes of the study, on the same draws of labels. A run is one line of the file of results, and
what is in it is never run again: the script may be stopped at any time, and a training goes on from its last checkpoint (in runs/compare/,
until its line is written). --table prints what is there: the mean over the seeds, and the difference from the variant `against` (or from
another one, --against) with its 95 % interval, for each data set (or for some, --only) and on average. The interval holds two spreads: of
the paired seeds, and of the test patients, who are resampled alike in all runs of a data set. Which patients are the test follows the
site's key: these data are public, and so is the key beside this script, which gives everyone the same test.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import yaml
from differences import RESAMPLES, fixed, table, variants_of

ALWAYS = {
    "train.workers": "0",
    "train.save_every_steps": "50",
    "train.precision": "fp32",  # auto differs from CPU to CPU
    "monitor.knn_every_epochs": "1000000",
    "monitor.log_every_steps": "50",
    "monitor.on_collapse": "warn",
    "tracking.mlflow": "false",
}
RUNS = Path("runs/compare")  # below the folder in which the script is started: trainings without a line in the results
IDENTITY = ("data", "path", "preset", "set", "variant", "settings", "seed", "labels", "draws", "modes")  # what makes two runs one


class Quiet:
    """A reporter that says nothing."""

    def say(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def progress(self, task: str, done: int, total: int, facts: Any = None) -> None: ...


def end_with_parent() -> None:
    """Stops this process when the script has ended, even by a kill."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One encoder, trained and scored. In a process of its own."""
    import torch

    torch.set_num_threads(job["threads"])
    facts = {key: job[key] for key in (*IDENTITY, "commit")}
    folder = RUNS / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    goes_on, began = folder.exists(), time.monotonic()
    network, watched = encoder(job, folder)
    trained = time.monotonic()
    scores = score(job, network)
    shutil.rmtree(folder, ignore_errors=True)
    seconds = {"pretrain": None if goes_on else round(trained - began, 1), "score": round(time.monotonic() - trained, 1)}
    return {**facts, "watched": watched, "seconds": seconds, **scores}


def encoder(job: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    """The frozen network of a job, and the last value of each number that was watched in its training."""
    from medssl.encoder import artefact
    from medssl.evaluate.models import Pixels

    if job["settings"] == ["pixels"]:
        return Pixels(), {}
    if fixed(job["settings"]):
        return frozen(job), {}
    if "random" in job["settings"]:
        from medssl.runs.dataset import channel_statistics, prepare_dataset

        config, source = configured(job, [item for item in job["settings"] if item != "random"])
        found = prepare_dataset(source, config, Quiet())
        mean, std = channel_statistics(found.store, found.pretraining)
        return artefact.build_encoder(config.backbone.model_dump(), config.data.channels, config.data.size, mean, std, job["seed"]), {}
    from medssl.commands.pretrain import pretrain

    sets = [*job["set"], *(f"{key}={value}" for key, value in ALWAYS.items()), *job["settings"]]
    if (folder / "encoder.safetensors").exists():  # the script was stopped while it scored
        pass
    elif any(folder.glob("*.ckpt")):
        pretrain(Quiet(), resume=folder)
    else:
        pretrain(Quiet(), data=job["path"], preset=job["preset"], seed=job["seed"], out=folder, overwrite=True, sets=sets)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    last = {key: value for row in rows for key, value in row.items()}
    return artefact.load(folder)[0], last


def frozen(job: dict[str, Any]) -> Any:
    """The network of a weights file, which sees the job's images as they are ("frozen="), or enlarged to the 224 pixels that such networks
    were trained with ("weights=")."""
    from torch import nn

    from medssl.encoder.foreign import load_foreign

    config, _ = configured(job, [])
    kind, _, file = job["settings"][0].partition("=")
    if kind == "frozen":
        return load_foreign(Path(file), config.data.channels, config.data.size).encoder
    return nn.Sequential(nn.Upsample(size=(224, 224), mode="bilinear"), load_foreign(Path(file), config.data.channels, 224).encoder).eval()


def configured(job: dict[str, Any], settings: list[str]) -> tuple[Any, Any]:
    from medssl.config import parse_overrides
    from medssl.runs.resolve_config import resolve_config

    return resolve_config(Quiet(), job["path"], job["preset"], parse_overrides([*job["set"], *settings]))


def score(job: dict[str, Any], network: Any) -> dict[str, dict[str, Any]]:
    """AUROC (area under the ROC curve, macro average) and the other metrics of the study by mode and amount of labels, the mean over the
    draws: `scores`, and in each resample of the test patients, `resamples`."""
    import numpy as np
    import torch

    from medssl.commands.finetune import views_of
    from medssl.data.split import parse_labels
    from medssl.evaluate import task
    from medssl.evaluate.experiment import RANDOM, Experiment, run_experiment
    from medssl.evaluate.stats import Resamples
    from medssl.evaluate.stats.metrics import METRICS
    from medssl.runs.dataset import prepare_dataset

    config, source = configured(job, [item for item in job["settings"] if item.startswith("finetune.")])
    found = prepare_dataset(source, config, Quiet())
    table = found.store.table
    question = task.define_task(table, task.label_columns(table, config.data.label), found.roles)
    y, weights = question.y[question.test], np.concatenate([*Resamples(question.patients[question.test], RESAMPLES, 0).weights()])
    name_of_start = RANDOM if "random" in job["settings"] else "pretrained"  # in mode full all layers of a random start have the same rate
    scores, resamples = {}, {}
    for mode in job["modes"]:
        request = Experiment(
            found.store.inputs,
            table,
            question,
            {name_of_start: network},
            parse_labels(job["labels"]),
            config.finetune.model_copy(update={"mode": mode, "draws": job["draws"], "bootstraps": 100}),
            0,
            torch.device("cpu"),
            make_views=views_of(config),
        )
        cells: dict[str, list[Any]] = {}
        for cell in run_experiment(request).cells:
            if cell.init == name_of_start:
                cells.setdefault(f"{mode} {cell.labels}", []).append(cell.prob)
        for name, draws in cells.items():
            for metric in job["metrics"]:
                measure, column = METRICS[metric], name if metric == "auroc" else f"{name} {metric}"
                scores[column] = round(float(np.mean([measure(y, prob, np.ones((1, len(y)))) for prob in draws])), 5)
                resamples[column] = np.mean([measure(y, prob, weights) for prob in draws], axis=0).round(4).tolist()
    return {"scores": scores, "resamples": resamples}


def jobs(study: dict[str, Any], only: list[str], threads: int) -> list[dict[str, Any]]:
    """All runs of the study, seed by seed, so that a study that was stopped has whole comparisons."""
    commit = commit_here()
    return [
        {
            "data": data,
            "path": given["data"],
            "preset": given["preset"],
            "set": given.get("set", []),
            "variant": name,
            "settings": settings,
            "seed": seed,
            "labels": given.get("labels", study["labels"]),
            "draws": study["draws"],
            "modes": study["modes"],
            "metrics": study.get("metrics", ["auroc"]),
            "threads": threads,
            "commit": commit,
        }
        for seed in range(study["seeds"])
        for data, given in study["data"].items()
        if not only or data in only
        for name, settings in variants_of(study, data).items()
        if seed == 0 or not fixed(settings)
    ]


def commit_here() -> str:
    return subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two jobs, or a job and a line of the results, are one."""
    return all(a[key] == b[key] for key in IDENTITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="trainings at a time, each with its share of the cores")
    parser.add_argument("--only", nargs="+", default=[], help="data sets")
    parser.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    parser.add_argument("--against", help="the variant that the others are compared with in the table")
    options = parser.parse_args()
    os.environ.setdefault("MEDSSL_KEY_FILE", str(Path(__file__).with_name("public_site.key")))  # for the processes that run
    study = yaml.safe_load(options.study.read_text("utf-8"))
    results = Path(study["results"])
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []
    if not options.table:
        wanted = jobs(study, options.only, max(1, cores // options.jobs))
        left = [job for job in wanted if not any(same(job, line) for line in lines)]
        print(f"{len(wanted) - len(left)} of {len(wanted)} runs are there", flush=True)
        context = get_context("spawn")
        with ProcessPoolExecutor(options.jobs, mp_context=context, max_tasks_per_child=1, initializer=end_with_parent) as pool:
            try:
                for future in as_completed([pool.submit(run, job) for job in left]):
                    lines.append(line := future.result())
                    with results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    print(line["data"], line["variant"], line["seed"], line["seconds"], line["scores"], flush=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    print(table(study, lines, options.against or study["against"], options.only))


if __name__ == "__main__":
    main()
