"""results.json is computed again from predictions.parquet: what was changed by hand is refused, intervals included."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.evaluate import recomputed
from medssl.evaluate.cell import Cell
from medssl.evaluate.predictions import read_predictions
from medssl.evaluate.results import summarise_cells
from medssl.evaluate.schema import RESULTS, RunDescription, RunFacts, read_results
from medssl.evaluate.task import Task

SEED, RESAMPLES = 3, 20
CLASSES = {"multiclass": ("normal", "sick"), "ordinal": ("none", "mild", "severe"), "multilabel": ("mass", "effusion")}
FAULTS = {
    "an interval is not compared": ("evaluate/recomputed.py", 'and _same(interval.stated.high, found["high"])', ""),
    "one interval is enough": ("evaluate/recomputed.py", "if number and passes < 0:", "if number:"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a run, written once for each kind."""
    return cache(lambda kind: write(tmp_path_factory.mktemp("runs") / kind, kind))


@pytest.fixture
def a_run(written, tmp_path) -> Callable[..., Path]:
    """a_run(kind): a copy of that folder."""
    return lambda kind="multiclass": shutil.copytree(written(kind), tmp_path / "run")


def write(folder: Path, kind: str) -> Path:
    """A run folder of 60 test images of 30 patients: pretrained and random with 10pct and 100pct; of "multiclass" raw pixels and a second
    draw of 10pct, too."""
    random, classes, rows = np.random.default_rng(0), CLASSES[kind], np.arange(60)
    who = np.repeat([f"p{i}" for i in range(30)], 2)
    y = random.integers(0, 2, (60, 2)) if kind == "multilabel" else np.arange(60) // 2 % len(classes)
    cells = []
    for init, skill in (("pretrained", 2.0), ("random", 1.0), ("pixels", 0.5)):
        for fraction, labels, draw in ((0.1, "10pct", 0), (1.0, "100pct", 0), (0.1, "10pct", 1)):
            if kind != "multiclass" and (draw or init == "pixels"):
                continue
            odds = random.normal(size=(60, len(classes))) + skill * fraction**0.2 * (y if y.ndim > 1 else np.eye(len(classes))[y])
            prob = 1 / (1 + np.exp(-odds)) if kind == "multilabel" else np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
            cells.append(Cell(fraction, labels, draw, "linear", init, 12, 6, prob, temperature=1.5))
    cells.sort(key=lambda cell: cell.fraction)
    task = Task("finding", classes, y, who, rows[:0], rows, 0, kind)  # pyright: ignore[reportArgumentType]
    table = pd.DataFrame({"key": [f"k{i:02}" for i in random.permutation(60)], "patient": who})
    description = RunDescription(run=RunFacts(seed=SEED))
    folder.mkdir()
    summarise_cells(task, table, cells, {}, bootstraps=RESAMPLES, seed=SEED, description=description).write(folder)
    return folder


def read(run: Path) -> None:
    read_predictions(run, read_results(run))


@pytest.mark.parametrize("kind", CLASSES)
def test_results_as_they_were_written_are_accepted(a_run, kind):
    read(a_run(kind))


def shift(part: dict[str, Any], key: str, by: float = 2e-6) -> None:
    part[key] += by


FORGED: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "a mean": ("multiclass", lambda d: shift(d["summary"][0]["auroc"], "mean"), "auroc of pretrained at 10pct"),
    "another mean": ("multiclass", lambda d: shift(d["summary"][5]["accuracy"], "mean"), "accuracy of pixels at 100pct"),
    "ends in another order": ("multiclass", lambda d: d["summary"][0]["auroc"].update(low=0.9, high=0.8), "the interval of auroc"),
    "a start without predictions": ("multiclass", lambda d: d["summary"][1].update(init="moco"), "moco at 10pct"),
    "a gain over such a start": ("multiclass", lambda d: d["paired"][0].update(versus="moco"), "the gain over moco at 10pct"),
    "images that were tested": ("multiclass", lambda d: shift(d["task"]["classes"][0], "test", 1), "the number of tested images"),
    "a class's mean": ("ordinal", lambda d: shift(d["summary"][0]["per_class"][0]["auroc"], "mean"), "auroc of the class 'none'"),
    "a class's name": ("ordinal", lambda d: d["summary"][0]["per_class"][0].update(name="ill"), "the class 'ill'"),
    "low end": ("multiclass", lambda d: shift(d["summary"][0]["auroc"], "low"), "the interval of auroc of pretrained at 10pct"),
    "high end": ("multiclass", lambda d: shift(d["summary"][4]["brier"], "high", -2e-6), "the interval of brier of random at 100pct"),
    "scaled": ("multiclass", lambda d: shift(d["summary"][1]["ece_scaled"], "low"), "the interval of ece_scaled of random at 10pct"),
    "no interval": ("multiclass", lambda d: d["summary"][0]["f1"].update(low=None, high=None), "the interval of f1 of pretrained"),
    "a gain's end": ("multiclass", lambda d: shift(d["paired"][1], "low"), "the interval of the gain over pixels at 10pct"),
    "a gain": ("multiclass", lambda d: shift(d["paired"][0], "auroc_gain"), "the gain over random at 10pct"),
    "a p-value": ("multiclass", lambda d: d["paired"][0].update(p_delong=0.5), "the p-value of the gain over random at 10pct"),
    "labels saved": ("multiclass", lambda d: shift(d["labels_saved"]["by_fraction"][0], "low"), "the gain at 10pct over random at 100pct"),
    "what they are compared with": ("multiclass", lambda d: shift(d["labels_saved"]["auroc"], "high"), "auroc of random at 100pct"),
    "the amount": ("multiclass", lambda d: d["labels_saved"].update(reached="1pct"), "the labels that are saved"),
    "a classifier's score": ("multiclass", lambda d: shift(d["cells"][2]["test"], "accuracy"), "accuracy of random at 10pct in draw 0"),
    "a classifier's temperature": ("multiclass", lambda d: shift(d["cells"][0], "temperature", 1), "ece_scaled of pretrained at 10pct"),
    "more resamples": ("multiclass", lambda d: d["interval"].update(bootstraps=120), "the interval of"),
    "another level": ("multiclass", lambda d: d["interval"].update(level=0.9), "the interval of"),
    "another seed": ("multiclass", lambda d: d["run"].update(seed=4), "the interval of"),
    "a class's end": ("ordinal", lambda d: shift(d["summary"][0]["per_class"][2]["auprc"], "low"), "auprc of the class 'severe'"),
    "a kappa": ("ordinal", lambda d: shift(d["summary"][0]["quadratic_kappa"], "mean"), "quadratic_kappa of pretrained at 10pct"),
    "a label's end": ("multilabel", lambda d: shift(d["summary"][0]["per_class"][1]["auroc"], "high"), "auroc of the class 'effusion'"),
    "an invented score": ("multiclass", lambda d: d["summary"][0].update(skill={"mean": 1, "low": 1, "high": 1}), "the score 'skill'"),
    "an invented draw": ("multiclass", lambda d: d["cells"][0].update(draw=7), "pretrained at 10pct in draw 7"),
}  # fmt: skip


@pytest.mark.fault("R31")
@pytest.mark.parametrize("forged", FORGED)
def test_a_number_that_the_predictions_do_not_give_is_refused_by_its_name(a_run, forged):
    kind, forge, named = FORGED[forged]
    run = a_run(kind)
    document = json.loads((run / RESULTS).read_text())
    forge(document)
    (run / RESULTS).write_text(json.dumps(document))
    with pytest.raises(UserError, match="do not belong together, or one was changed") as refused:
        read(run)
    assert named in str(refused.value) and str(run) in str(refused.value)


@pytest.mark.fault("R31")
@pytest.mark.parametrize("wrong", [{"bootstraps": 10**12}, {"bootstraps": 0}, {"level": 1.0}, {"level": -1}])
def test_intervals_that_nobody_could_compute_are_refused_before_it_is_tried(a_run, wrong):
    run = a_run()
    document = json.loads((run / RESULTS).read_text())
    document["interval"].update(wrong)
    (run / RESULTS).write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"interval.{next(iter(wrong))}"):
        read(run)


def test_of_many_images_a_part_of_the_intervals_is_computed_again_which_the_content_chooses(a_run, monkeypatch):
    run = a_run()
    document = read_results(run)
    given = read_predictions(run, document)
    assert given is not None

    def chosen(of) -> list[str]:
        again = recomputed._Recomputed(of, given.y, given.patients, given.draws)
        return [interval.where for interval in again.affordable_intervals()]

    everything = chosen(document)
    assert {"auroc of pretrained at 10pct", "the gain over pixels at 100pct", "ece of random at 100pct"} <= set(everything)
    monkeypatch.setattr(recomputed, "_WEIGHTS", 60 * RESAMPLES * 20)
    some = chosen(document)
    assert 8 <= len(some) <= 20 and some == everything[: len(some)], "twenty passes of one or two draws, gains of up to four"
    assert chosen(document.model_copy(update={"leak_check": None, "run": RunFacts(seed=SEED, command="x")})) != some
    monkeypatch.setattr(recomputed, "_WEIGHTS", 0)
    assert chosen(document) == everything[:1]
