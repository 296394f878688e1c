"""What a study found: one cell for each classifier, their summary with intervals, paired differences, and the files that hold them."""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate.models.calibration import tempered
from medssl.evaluate.stats.bootstrap import Resamples, interval, resampled
from medssl.evaluate.stats.delong import p_value
from medssl.evaluate.stats.metrics import METRICS, Metric, Scores, auprc, auroc, ece, quadratic_kappa, score
from medssl.evaluate.stats.subgroups import groups_of, subgroups
from medssl.evaluate.task import Task
from medssl.files import write_whole

FORMAT = 2
LEVEL = 0.95
RESULTS, PREDICTIONS, SPLITS = "results.json", "predictions.parquet", "splits.json"

Group = tuple[float, str, str, str]  # fraction, its name, mode, init
Means = Mapping[Group, Mapping[str, float]]  # each metric's mean over the draws
Values = Mapping[Group, Mapping[str, Scores]]  # the same in every resample


@dataclass(frozen=True)
class Cell:
    """One classifier, scored once. `labels`: the fraction's name, "10pct"; `prob`: float64 [test images, classes]."""

    fraction: float
    labels: str
    draw: int
    mode: str
    init: str
    n_labels: int
    n_patients: int
    prob: np.ndarray
    temperature: float = 1.0

    @property
    def group(self) -> Group:
        return self.fraction, self.labels, self.mode, self.init


@dataclass(frozen=True)
class Results:
    """`document`: results.json. `predictions`: a row per cell and test image. `splits`: who gave labels in each draw, who was tested."""

    document: dict[str, Any]
    predictions: pd.DataFrame
    splits: dict[str, Any]

    def write(self, folder: Path) -> None:
        """The three files, each whole or not there."""
        buffer = io.BytesIO()
        self.predictions.to_parquet(buffer, index=False)
        write_whole(folder / PREDICTIONS, buffer.getvalue())
        write_whole(folder / SPLITS, _json(self.splits))
        write_whole(folder / RESULTS, _json(self.document))

    def scores(self) -> dict[str, float]:
        """The summary as flat numbers for a tracker: "linear.10pct.pretrained.auroc_low", "linear.10pct.gain_over_random" and so on."""
        flat = {}
        for row in self.document["summary"]:
            for name in metrics_of(self.document["task"]["kind"]):
                for part, suffix in (("mean", ""), ("low", "_low"), ("high", "_high")):
                    flat[f"{row['mode']}.{row['labels']}.{row['init']}.{name}{suffix}"] = row[name][part]
        for row in self.document["paired"]:
            flat[f"{row['mode']}.{row['labels']}.gain_over_{row['versus']}"] = row["auroc_gain"]
        return flat


def gather(
    task: Task, table: pd.DataFrame, cells: Sequence[Cell], drawn: Mapping[str, Sequence[np.ndarray]], *, bootstraps: int, seed: int,
    facts: Mapping[str, Any],
) -> Results:  # fmt: skip
    """Results of cells that are in the order of their groups. `drawn`: the rows of each draw, by the fraction's name.

    `facts` (what is known of data, encoder and run) go into the document as they are. The first initialisation of a mode is the one that
    the others are compared with.
    """
    y, patients = task.y[task.test], task.patients[task.test]
    metrics = metrics_of(task.kind)
    resamples = Resamples(patients, bootstraps, seed)
    groups = {group: list(members) for group, members in groupby(cells, lambda cell: cell.group)}
    values = {group: _resampled(task, y, members, resamples) for group, members in groups.items()}
    means = {
        group: {name: float(np.mean([_scored(task, y, cell)[name] for cell in members])) for name in metrics}
        for group, members in groups.items()
    }
    divided = groups_of(table.iloc[task.test])
    first = cells[0].init
    document = {
        "format": FORMAT,
        **facts,
        "task": _question(task),
        "interval": {"level": LEVEL, "bootstraps": bootstraps, "over": "patients and draws"},
        "cells": [_cell(task, cell, y) for cell in cells],
        "summary": [_summary(task, group, members, means[group], values[group], resamples) for group, members in groups.items()],
        "paired": _paired(task, groups, means, values),
        "labels_saved": _labels_saved(means, values),
        "subgroups": [
            {**row, "labels": group[1], "mode": group[2], "init": first}
            for group, members in groups.items()
            if group[3] == first
            for row in subgroups(task, divided, [cell.prob for cell in members], METRICS, seed=seed, level=LEVEL)
        ],
    }
    return Results(document, _predictions(task, table, cells), _splits(task, table, drawn))


def metrics_of(kind: str) -> dict[str, Metric]:
    """Those of a task: for classes that have an order a kappa, too. "ece_scaled" is the ECE of the tempered probabilities."""
    return {**METRICS, "ece_scaled": ece, **({"quadratic_kappa": quadratic_kappa} if kind == "ordinal" else {})}


def _scored(task: Task, y: np.ndarray, cell: Cell) -> dict[str, float]:
    metrics = metrics_of(task.kind)
    return {**score(y, cell.prob, metrics), "ece_scaled": score(y, _tempered(task, cell), {"ece": ece})["ece"]}


def _resampled(task: Task, y: np.ndarray, cells: Sequence[Cell], resamples: Resamples) -> Mapping[str, Scores]:
    metrics = {name: metric for name, metric in metrics_of(task.kind).items() if name != "ece_scaled"}
    plain = resampled(y, [cell.prob for cell in cells], resamples, metrics)
    return plain | resampled(y, [_tempered(task, cell) for cell in cells], resamples, {"ece_scaled": ece})


def _tempered(task: Task, cell: Cell) -> np.ndarray:
    return tempered(cell.prob, cell.temperature, task.multilabel)


def _question(task: Task) -> dict[str, Any]:
    """The task as the document tells it. A class's numbers are those of its images, of several labels those where it is present."""
    pool, test = (
        (task.y[rows] == 1).sum(0) if task.multilabel else np.bincount(task.y[rows], minlength=len(task.classes))
        for rows in (task.pool, task.test)
    )
    return {
        "column": task.column,
        "kind": task.kind,
        "classes": [{"name": name, "pool": p, "test": t} for name, p, t in zip(task.classes, pool.tolist(), test.tolist(), strict=True)],
        "pool": {"n_labels": len(task.pool), "n_patients": len(np.unique(task.patients[task.pool]))},
        "test": {"n_labels": len(task.test), "n_patients": len(np.unique(task.patients[task.test]))},
        "copies_left_out": task.copies,
    }


def _cell(task: Task, cell: Cell, y: np.ndarray) -> dict[str, Any]:
    counts = {"n_labels": cell.n_labels, "n_patients": cell.n_patients}
    where = {"fraction": cell.fraction, "labels": cell.labels, "draw": cell.draw, "mode": cell.mode, "init": cell.init}
    return {**where, **counts, "temperature": cell.temperature, "test": _scored(task, y, cell)}


def _summary(
    task: Task, group: Group, cells: Sequence[Cell], means: Mapping[str, float], values: Mapping[str, Scores], resamples: Resamples
) -> dict[str, Any]:
    fraction, labels, mode, init = group
    row: dict[str, Any] = {"fraction": fraction, "labels": labels, "mode": mode, "init": init, "draws": len(cells)}
    for count in ("n_labels", "n_patients"):
        numbers = [getattr(cell, count) for cell in cells]
        row[count] = {"low": min(numbers), "high": max(numbers)}
    row |= {name: _number(mean, values[name]) for name, mean in means.items()}
    return {**row, "per_class": _per_class(task, cells, resamples)}


def _per_class(task: Task, cells: Sequence[Cell], resamples: Resamples) -> list[dict[str, Any]]:
    """AUROC and AUPRC of each of several labels, or of each of more than two classes against the rest."""
    if len(task.classes) == 2 and not task.multilabel:
        return []
    y, metrics = task.y[task.test], {"auroc": auroc, "auprc": auprc}
    rows = []
    for c, name in enumerate(task.classes):
        truth = y[:, [c]] if task.multilabel else (y == c).astype(int)[:, None]
        draws = [cell.prob[:, [c]] for cell in cells]
        values = resampled(truth, draws, resamples, metrics)
        means = {key: float(np.mean([score(truth, prob, metrics)[key] for prob in draws])) for key in metrics}
        rows.append({"name": name, **{key: _number(means[key], values[key]) for key in metrics}})
    return rows


def _number(mean: float, values: Scores) -> dict[str, float]:
    low, high = interval(values, LEVEL)
    return {"mean": mean, "low": low, "high": high}


def _paired(task: Task, groups: Mapping[Group, Sequence[Cell]], means: Means, values: Values) -> list[dict[str, Any]]:
    """The AUROC that the first initialisation gains over every other one at the same fraction, on the same test patients."""
    rows = []
    first = next(iter(means))[3]
    for ours in (group for group in means if group[3] == first):
        fraction, labels, mode, _ = ours
        for theirs in (group for group in means if group[1] == labels and group[3] != first):
            versus = {"fraction": fraction, "labels": labels, "mode": mode, "versus": theirs[3]}
            rows.append({**versus, **_gain(ours, theirs, means, values), "p_delong": _p(task, groups[ours], groups[theirs])})
    return rows


def _labels_saved(means: Means, values: Values) -> dict[str, Any] | None:
    """How the first initialisation compares, fraction by fraction, with the random one given all labels; `reached`: the first fraction
    with an AUROC at least as large, None where there is none. None without a random start at all labels or without a smaller fraction."""
    *_, mode, first = next(iter(means))
    full = next((group for group in means if group[0] == 1 and group[2:] == (mode, "random")), None)
    ours = [group for group in means if group[3] == first]
    if full is None or first == "random" or len(ours) < 2:
        return None
    rows = [{"fraction": group[0], "labels": group[1], **_gain(group, full, means, values)} for group in ours]
    reached = next((row["labels"] for row in rows if row["auroc_gain"] >= 0), None)
    return {"versus": "random", "at": full[1], "mode": mode, "auroc": means[full]["auroc"], "reached": reached, "by_fraction": rows}


def _gain(ours: Group, theirs: Group, means: Means, values: Values) -> dict[str, float]:
    low, high = interval(values[ours]["auroc"] - values[theirs]["auroc"], LEVEL)
    return {"auroc_gain": means[ours]["auroc"] - means[theirs]["auroc"], "low": low, "high": high}


def _p(task: Task, ours: Sequence[Cell], theirs: Sequence[Cell]) -> float | None:
    """DeLong's p of two classes; None with more of them, for which there is no one test, and where nothing can be told."""
    if len(task.classes) != 2 or task.multilabel:
        return None
    scores = [[cell.prob[:, 1] for cell in cells] for cells in (ours, theirs)]
    p = p_value(task.y[task.test] == 1, scores[0], scores[1], task.patients[task.test])
    return None if math.isnan(p) else p


def _predictions(task: Task, table: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    test = table.iloc[task.test]
    if task.multilabel:
        truth = {f"true_{name}": task.y[task.test, k] for k, name in enumerate(task.classes)}
    else:
        truth = {"y_true": [task.classes[c] for c in task.y[task.test]]}
    parts = []
    for cell in cells:
        who = {"key": test["key"].to_numpy(), "patient": test["patient"].to_numpy(), **truth}
        where = {"fraction": cell.fraction, "labels": cell.labels, "draw": cell.draw, "mode": cell.mode, "init": cell.init}
        where["temperature"] = cell.temperature
        columns = {f"prob_{name}": cell.prob[:, c] for c, name in enumerate(task.classes)}
        parts.append(pd.DataFrame({**who, **where, **columns}))
    return pd.concat(parts, ignore_index=True)


def _splits(task: Task, table: pd.DataFrame, drawn: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Any]:
    keys = table["key"].to_numpy()
    content = {
        "column": task.column,
        "test": keys[task.test].tolist(),
        "draws": {labels: [keys[rows].tolist() for rows in draws] for labels, draws in drawn.items()},
    }
    return {"sha256": hashlib.sha256(_json(content)).hexdigest(), **content}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
