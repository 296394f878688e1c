"""What a study found: one cell for each classifier, their summary with intervals, paired differences, and the files that hold them."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate.intervals import Resamples, interval, resampled
from medssl.evaluate.metrics import METRICS, Scores, score
from medssl.evaluate.task import Task
from medssl.files import write_whole

FORMAT = 1
LEVEL = 0.95
RESULTS, PREDICTIONS, SPLITS = "results.json", "predictions.parquet", "splits.json"

Group = tuple[float, str, str, str]  # fraction, its name, mode, init


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
            for name in METRICS:
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
    tested = {"n_labels": len(y), "n_patients": len(np.unique(patients))}
    in_test = np.bincount(y, minlength=len(task.classes)).tolist()
    in_pool = np.bincount(task.y[task.pool], minlength=len(task.classes)).tolist()
    resamples = Resamples(patients, bootstraps, seed)
    groups = {group: list(members) for group, members in groupby(cells, lambda cell: cell.group)}
    values = {group: resampled(y, [cell.prob for cell in members], resamples) for group, members in groups.items()}
    means = {
        group: {name: float(np.mean([score(y, cell.prob)[name] for cell in members])) for name in METRICS}
        for group, members in groups.items()
    }
    document = {
        "format": FORMAT,
        **facts,
        "task": {
            "column": task.column,
            "classes": [{"name": name, "pool": p, "test": t} for name, p, t in zip(task.classes, in_pool, in_test, strict=True)],
            "pool": {"n_labels": len(task.pool), "n_patients": len(np.unique(task.patients[task.pool]))},
            "test": tested,
            "copies_left_out": task.copies,
        },
        "interval": {"level": LEVEL, "bootstraps": bootstraps, "over": "patients and draws"},
        "cells": [_cell(cell, y) for cell in cells],
        "summary": [_summary(group, members, means[group], values[group]) for group, members in groups.items()],
        "paired": _paired(means, values),
    }
    return Results(document, _predictions(task, table, cells), _splits(task, table, drawn))


def _cell(cell: Cell, y: np.ndarray) -> dict[str, Any]:
    counts = {"n_labels": cell.n_labels, "n_patients": cell.n_patients}
    where = {"fraction": cell.fraction, "labels": cell.labels, "draw": cell.draw, "mode": cell.mode, "init": cell.init}
    return {**where, **counts, "test": score(y, cell.prob)}


def _summary(group: Group, cells: Sequence[Cell], means: Mapping[str, float], values: Mapping[str, Scores]) -> dict[str, Any]:
    fraction, labels, mode, init = group
    row: dict[str, Any] = {"fraction": fraction, "labels": labels, "mode": mode, "init": init, "draws": len(cells)}
    for count in ("n_labels", "n_patients"):
        numbers = [getattr(cell, count) for cell in cells]
        row[count] = {"low": min(numbers), "high": max(numbers)}
    for name, mean in means.items():
        low, high = interval(values[name], LEVEL)
        row[name] = {"mean": mean, "low": low, "high": high}
    return row


def _paired(means: Mapping[Group, Mapping[str, float]], values: Mapping[Group, Mapping[str, Scores]]) -> list[dict[str, Any]]:
    """The AUROC that the first initialisation gains over every other one at the same fraction."""
    rows = []
    first = next(iter(means))[3]
    for ours in (group for group in means if group[3] == first):
        fraction, labels, mode, _ = ours
        for theirs in (group for group in means if group[1] == labels and group[3] != first):
            low, high = interval(values[ours]["auroc"] - values[theirs]["auroc"], LEVEL)
            gain = means[ours]["auroc"] - means[theirs]["auroc"]
            rows.append(
                {"fraction": fraction, "labels": labels, "mode": mode, "versus": theirs[3], "auroc_gain": gain, "low": low, "high": high}
            )
    return rows


def _predictions(task: Task, table: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    test = table.iloc[task.test]
    truth = [task.classes[c] for c in task.y[task.test]]
    parts = []
    for cell in cells:
        who = {"key": test["key"].to_numpy(), "patient": test["patient"].to_numpy(), "y_true": truth}
        where = {"fraction": cell.fraction, "labels": cell.labels, "draw": cell.draw, "mode": cell.mode, "init": cell.init}
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
