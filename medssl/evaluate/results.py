"""The results of a study: one cell for each classifier, their summary with intervals, paired differences, and the files that hold them."""

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate.cell import Cell, Group
from medssl.evaluate.schema import (
    FORMAT,
    PREDICTIONS,
    RESULTS,
    SPLITS,
    CellRow,
    ClassCounts,
    ClassRow,
    Counts,
    Gain,
    IntervalFacts,
    LabelsSaved,
    PairedRow,
    Range,
    ResultsDocument,
    RunDescription,
    Score,
    SiteProbe,
    Splits,
    SummaryRow,
    TaskFacts,
)
from medssl.evaluate.stats import Resamples, Scores, apply_temperature, auroc, ends, interval_or_none, p_value
from medssl.evaluate.stats.bootstrap import resample_scores
from medssl.evaluate.stats.metrics import METRICS, Metric, auprc, ece, quadratic_kappa, score
from medssl.evaluate.stats.subgroups import groups_of, subgroups
from medssl.evaluate.task import Task, few_test_patients
from medssl.files import write_atomically

LEVEL = 0.95
CHANCE = 0.5  # the AUROC of guessing
MARGIN = 0.01  # of AUROC: the margin of non-inferiority

Means = Mapping[Group, Mapping[str, float]]  # each metric's mean over the draws
Values = Mapping[Group, Mapping[str, Scores]]  # the same in every resample


@dataclass(frozen=True)
class Results:
    """`document`: results.json. `predictions`: a row per cell and test image. `splits`: who gave labels in each draw, who was tested."""

    document: ResultsDocument
    predictions: pd.DataFrame
    splits: Splits

    def write(self, folder: Path) -> None:
        """The three files, each whole or not there."""
        buffer = io.BytesIO()
        self.predictions.to_parquet(buffer, index=False)
        write_atomically(folder / PREDICTIONS, buffer.getvalue())
        write_atomically(folder / SPLITS, _json(self.splits.model_dump(mode="json")))
        write_atomically(folder / RESULTS, _json(self.document.to_dict()))

    def scores(self) -> dict[str, float]:
        """The summary as flat numbers for a tracker: "linear.10pct.pretrained.auroc_low", "linear.10pct.gain_over_random" and so on."""
        flat = {}
        for row in self.document.summary:
            for name in metrics_of(self.document.task.kind):
                score, key = row.score(name), f"{row.mode}.{row.labels}.{row.init}.{name}"
                flat[key] = score.mean
                if found := ends(score):
                    flat[f"{key}_low"], flat[f"{key}_high"] = found
        for row in self.document.paired:
            flat[f"{row.mode}.{row.labels}.gain_over_{row.versus}"] = row.auroc_gain
        return flat


def summarise_cells(
    task: Task, table: pd.DataFrame, cells: Sequence[Cell], drawn: Mapping[str, Sequence[np.ndarray]], *, bootstraps: int, seed: int,
    description: RunDescription, site_probe: SiteProbe | None = None,
) -> Results:  # fmt: skip
    """Results of cells that are in the order of their groups. `drawn`: the rows of each draw, by the fraction's name.

    `description` and `site_probe` go into the document as they are. The first initialisation of a mode is the one that the others are
    compared with.
    """
    y, patients = task.y[task.test], task.patients[task.test]
    metrics = metrics_of(task.kind)
    resamples = Resamples(patients, bootstraps, seed)
    groups = {group: list(members) for group, members in groupby(cells, lambda cell: cell.group)}
    values = {group: _resample(task, y, members, resamples) for group, members in groups.items()}
    means = {
        group: {name: float(np.mean([_compute_scores(task, y, cell)[name] for cell in members])) for name in metrics}
        for group, members in groups.items()
    }
    subgroups_of_test = groups_of(table.iloc[task.test])
    first = cells[0].init
    rows = [
        row
        for group, members in groups.items()
        if group[3] == first
        for row in subgroups(task, subgroups_of_test, members, METRICS, seed=seed, level=LEVEL)
    ]
    document = ResultsDocument(
        format=FORMAT,
        **{part: getattr(description, part) for part in description.model_fields_set},
        task=_task_facts(task),
        interval=_interval_facts(task, bootstraps, description.data.origin.units),
        cells=tuple(_cell_row(task, cell, y) for cell in cells),
        summary=tuple(_summary(task, group, members, means[group], values[group], resamples) for group, members in groups.items()),
        paired=tuple(_paired(task, groups, means, values)),
        labels_saved=_labels_saved(means, values),
        subgroups=tuple(rows),
        site_probe=site_probe,
    )
    return Results(document, _predictions(task, table, cells), _splits(task, table, drawn))


def _interval_facts(task: Task, bootstraps: int, units: str) -> IntervalFacts:
    warning = few_test_patients(task, units)
    return IntervalFacts(level=LEVEL, bootstraps=bootstraps, over=f"{units} and draws", **({"warning": warning} if warning else {}))


def metrics_of(kind: str) -> dict[str, Metric]:
    """Those of a task: for classes that have an order a kappa, too. "ece_scaled" is the ECE after temperature scaling."""
    return {**METRICS, "ece_scaled": ece, **({"quadratic_kappa": quadratic_kappa} if kind == "ordinal" else {})}


def _compute_scores(task: Task, y: np.ndarray, cell: Cell) -> dict[str, float]:
    metrics = metrics_of(task.kind)
    return {**score(y, cell.prob, metrics), "ece_scaled": score(y, _calibrate(task, cell), {"ece": ece})["ece"]}


def _resample(task: Task, y: np.ndarray, cells: Sequence[Cell], resamples: Resamples) -> Mapping[str, Scores]:
    metrics = {name: metric for name, metric in metrics_of(task.kind).items() if name != "ece_scaled"}
    plain = resample_scores(y, [cell.prob for cell in cells], resamples, metrics)
    return plain | resample_scores(y, [_calibrate(task, cell) for cell in cells], resamples, {"ece_scaled": ece})


def _calibrate(task: Task, cell: Cell) -> np.ndarray:
    return apply_temperature(cell.prob, cell.temperature, task.multilabel)


def _task_facts(task: Task) -> TaskFacts:
    """A class's numbers are those of its images, of several labels those where it is present."""
    pool, test = (
        (task.y[rows] == 1).sum(0) if task.multilabel else np.bincount(task.y[rows], minlength=len(task.classes))
        for rows in (task.pool, task.test)
    )
    facts = TaskFacts(
        column=task.column,
        kind=task.kind,
        classes=tuple(ClassCounts(name=name, pool=p, test=t) for name, p, t in zip(task.classes, pool, test, strict=True)),
        pool=_counts(task, task.pool),
        test=_counts(task, task.test),
        copies_left_out=task.copies,
    )
    return facts if task.counted == "images" else facts.model_copy(update={"counted": task.counted})


def _counts(task: Task, rows: np.ndarray) -> Counts:
    return Counts(n_labels=len(rows), n_patients=len(np.unique(task.patients[rows])))


def _identify(cell: Cell) -> dict[str, Any]:
    return {"fraction": cell.fraction, "labels": cell.labels, "draw": cell.draw, "mode": cell.mode, "init": cell.init}


def _cell_row(task: Task, cell: Cell, y: np.ndarray) -> CellRow:
    return CellRow(
        **_identify(cell),
        n_labels=cell.n_labels,
        n_patients=cell.n_patients,
        temperature=cell.temperature,
        test=_compute_scores(task, y, cell),
    )


def _summary(
    task: Task, group: Group, cells: Sequence[Cell], means: Mapping[str, float], values: Mapping[str, Scores], resamples: Resamples
) -> SummaryRow:
    fraction, labels, mode, init = group
    labelled, patients = [cell.n_labels for cell in cells], [cell.n_patients for cell in cells]
    return SummaryRow(
        fraction=fraction,
        labels=labels,
        mode=mode,
        init=init,
        draws=len(cells),
        n_labels=Range(low=min(labelled), high=max(labelled)),
        n_patients=Range(low=min(patients), high=max(patients)),
        **{name: _with_interval(mean, values[name]) for name, mean in means.items()},
        per_class=tuple(_per_class(task, cells, resamples)),
    )


def _per_class(task: Task, cells: Sequence[Cell], resamples: Resamples) -> Iterator[ClassRow]:
    """AUROC and AUPRC of each of several labels, or of each of more than two classes against the rest."""
    if len(task.classes) == 2 and not task.multilabel:
        return
    y, metrics = task.y[task.test], {"auroc": auroc, "auprc": auprc}
    for c, name in enumerate(task.classes):
        truth = y[:, [c]] if task.multilabel else (y == c).astype(int)[:, None]
        draws = [cell.prob[:, [c]] for cell in cells]
        values = resample_scores(truth, draws, resamples, metrics)
        means = {key: float(np.mean([score(truth, prob, metrics)[key] for prob in draws])) for key in metrics}
        yield ClassRow(name=name, **{key: _with_interval(means[key], values[key]) for key in metrics})


def _with_interval(mean: float, values: Scores) -> Score:
    return Score(mean=mean, **interval_or_none(values, LEVEL))


def _paired(task: Task, groups: Mapping[Group, Sequence[Cell]], means: Means, values: Values) -> Iterator[PairedRow]:
    """The AUROC that the first initialisation gains over every other one at the same fraction, on the same test patients."""
    first = next(iter(means))[3]
    for ours in (group for group in means if group[3] == first):
        for theirs in (group for group in means if group[1] == ours[1] and group[3] != first):
            p = _p(task, groups[ours], groups[theirs])
            yield PairedRow(mode=ours[2], versus=theirs[3], p_delong=p, **_gain(ours, theirs, means, values).model_dump())


def _labels_saved(means: Means, values: Values) -> LabelsSaved | None:
    """Whether the first initialisation with fewer labels is not inferior to the random one with all labels, as `LabelsSaved` says. None
    without a random initialisation at all labels, without a smaller fraction, or without intervals."""
    *_, mode, first = next(iter(means))
    full = next((group for group in means if group[0] == 1 and group[2:] == (mode, "random")), None)
    ours = [group for group in means if group[3] == first]
    if full is None or first == "random" or len(ours) < 2:
        return None
    gains = tuple(_gain(group, full, means, values) for group in ours)
    reference = _with_interval(means[full]["auroc"], values[full]["auroc"])
    if reference.low is None:
        return None
    at_chance, reached = non_inferior(reference, gains)
    return LabelsSaved(
        versus="random", at=full[1], mode=mode, auroc=reference, margin=MARGIN, at_chance=at_chance, reached=reached, by_fraction=gains
    )


def non_inferior(reference: Score, gains: Sequence[Gain]) -> tuple[bool, str | None]:
    """Whether the reference is at chance; and the first of the gains that is not inferior to it, None where there is none."""
    at_chance = reference.low is None or reference.low <= CHANCE
    return at_chance, None if at_chance else next((gain.labels for gain in gains if gain.low is not None and gain.low >= -MARGIN), None)


def _gain(ours: Group, theirs: Group, means: Means, values: Values) -> Gain:
    gain = means[ours]["auroc"] - means[theirs]["auroc"]
    return Gain(
        fraction=ours[0], labels=ours[1], auroc_gain=gain, **interval_or_none(values[ours]["auroc"] - values[theirs]["auroc"], LEVEL)
    )


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
        identity = {**_identify(cell), "temperature": cell.temperature}
        columns = {f"prob_{name}": cell.prob[:, c] for c, name in enumerate(task.classes)}
        parts.append(pd.DataFrame({**who, **identity, **columns}))
    return pd.concat(parts, ignore_index=True)


def _splits(task: Task, table: pd.DataFrame, drawn: Mapping[str, Sequence[np.ndarray]]) -> Splits:
    keys = table["key"].to_numpy()
    content = {
        "column": task.column,
        "test": keys[task.test].tolist(),
        "draws": {labels: [keys[rows].tolist() for rows in draws] for labels, draws in drawn.items()},
    }
    return Splits(sha256=hashlib.sha256(_json(content)).hexdigest(), **content)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
