"""Invented fine-tuning runs from given probabilities: the files of a run folder, with every AUROC computed by scikit-learn. Their
intervals are those of the bootstrap, as the reader computes them again; `tests/evaluate/stats` compares that with scikit-learn."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from medssl.compare import Run
from medssl.config import merge
from medssl.evaluate.schema import ResultsDocument, read_results
from medssl.evaluate.stats import Resamples, auroc, interval_or_none
from medssl.evaluate.stats.bootstrap import resample_scores

SHARES = {"1pct": 0.01, "10pct": 0.1, "100pct": 1.0}
Y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
TITLES = {"pnnclr": "pNNCLR", "moco": "MoCo", "simclr": "SimCLR"}
PATIENTS = np.array(["a", "a", "b", "c", "d", "e", "f", "f"])
RIGHT = np.array([0.1, 0.2, 0.1, 0.3, 0.8, 0.9, 0.7, 0.6])  # ranks all images: AUROC 1 in every resample
FLAT = np.full(8, 0.5)  # ranks none: AUROC 0.5 in every resample

Drawn = Mapping[str, Mapping[str, Sequence[np.ndarray]]]  # init -> fraction -> the positive's probabilities of each draw


def a_document(
    drawn: Drawn, *, mode: str = "linear", method: str = "pnnclr", data: str = "nih", y: np.ndarray = Y, patients: np.ndarray = PATIENTS
) -> dict[str, Any]:
    """results.json of these probabilities."""
    resamples = Resamples(patients, 200, seed=0)
    summary = [
        {
            "fraction": SHARES[labels],
            "labels": labels,
            "mode": mode,
            "init": init,
            "draws": len(draws),
            "n_labels": {"low": round(1000 * SHARES[labels]), "high": round(1000 * SHARES[labels])},
            "n_patients": {"low": 4, "high": 4},
            "auroc": {"mean": mean, **interval_or_none(values["auroc"], 0.95)},
        }
        for init, fractions in drawn.items()
        for labels, draws in fractions.items()
        for mean in [float(np.mean([roc_auc_score(y, p) for p in draws]))]
        for values in [resample_scores(y, [np.column_stack([1 - p, p]) for p in draws], resamples, {"auroc": auroc})]
    ]
    return {
        "format": 2,
        "data": {"name": data, "fingerprint": f"print-{data}"},
        "encoder": {
            "method": {"name": method, "title": TITLES.get(method, method), "uses_labels": False},
            "backbone": {"name": "timm", "model": "resnet18"},
            "weights_sha256": f"sha-{method}-{data}",
        },
        "leak_check": {"patients": 6, "images": 8, "leaked": 0},
        "run": {"command": f"medssl finetune --encoder {method}", "seed": 0},
        "task": {
            "column": "finding",
            "kind": "multiclass",
            "classes": [{"name": "normal", "pool": 9, "test": 4}, {"name": "sick", "pool": 9, "test": 4}],
            "pool": {"n_labels": 18, "n_patients": 9},
            "test": {"n_labels": len(y), "n_patients": 6},
            "copies_left_out": 0,
        },
        "interval": {"level": 0.95, "bootstraps": 200, "over": "patients and draws"},
        "cells": [],
        "summary": summary,
        "paired": [],
        "labels_saved": None,
    }


def predictions(drawn: Drawn, mode: str = "linear", y: np.ndarray = Y, patients: np.ndarray = PATIENTS) -> pd.DataFrame:
    """predictions.parquet of the same."""
    who = {"key": [f"key{i}" for i in range(len(y))], "patient": patients, "y_true": np.array(["normal", "sick"])[y]}
    return pd.concat(
        pd.DataFrame(
            {
                **who,
                "fraction": SHARES[labels],
                "labels": labels,
                "draw": draw,
                "mode": mode,
                "init": init,
                "prob_normal": 1 - p,
                "prob_sick": p,
            }
        )
        for init, fractions in drawn.items()
        for labels, draws in fractions.items()
        for draw, p in enumerate(draws)
    )


def write_run(folder: Path, drawn: Drawn, *, mode: str = "linear", patients: np.ndarray = PATIENTS, y: np.ndarray = Y, **facts: Any) -> Run:
    """Write the files of a run, and read them."""
    folder.mkdir(parents=True)
    document = a_document(drawn, mode=mode, y=y, patients=patients, **facts)
    (folder / "results.json").write_text(json.dumps(document))
    predictions(drawn, mode, y, patients).to_parquet(folder / "predictions.parquet", index=False)
    return Run.read(folder, read_results(folder))


def with_changes(run: Run, parts: Mapping[str, Any], **fields: Any) -> Run:
    """The run with other `parts` of its results.json, and with other `fields`."""
    return replace(run, document=ResultsDocument.model_validate(merge(run.document.to_dict(), parts)), **fields)
