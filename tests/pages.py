"""Invented studies for tests of the report: results.json documents and inputs of pictures, with made-up numbers."""

from html.parser import HTMLParser
from typing import Any

import numpy as np
from torch import nn

from medssl.evaluate.schema import ResultsDocument
from medssl.evaluate.stats.metrics import METRICS
from medssl.report import CurveInputs, ImageInputs, page

SCRIPT = "<script>alert(1)</script>"


def row(labels: str, fraction: float, init: str, auroc: float, draws: int) -> dict[str, Any]:
    used = {"1pct": (5, 7), "10pct": (58, 66), "100pct": (609, 609)}[labels]
    scores = {
        name: {"mean": value, "low": value - 0.05, "high": value + 0.04}
        for name, value in {**dict.fromkeys(METRICS, 0.7), "auroc": auroc, "balanced_accuracy": 0.69, "brier": 0.2345}.items()
    }
    where = {"fraction": fraction, "labels": labels, "mode": "linear", "init": init, "draws": draws}
    return {**where, "n_labels": {"low": used[0], "high": used[1]}, "n_patients": {"low": 4, "high": 4}, **scores}


def a_document(fractions: tuple[str, ...] = ("1pct", "10pct", "100pct")) -> dict[str, Any]:
    share = {"1pct": 0.01, "10pct": 0.1, "100pct": 1.0}
    aurocs = {"pretrained": {"1pct": 0.701, "10pct": 0.823, "100pct": 0.885}, "random": {"1pct": 0.58, "10pct": 0.66, "100pct": 0.72}}
    summary = [row(f, share[f], init, aurocs[init][f], 1 if f == "100pct" else 5) for f in fractions for init in aurocs]
    paired = [
        {"fraction": share[f], "labels": f, "mode": "linear", "versus": "random", "auroc_gain": 0.1634, "low": 0.05, "high": 0.27}
        | {"p_delong": {"1pct": None, "10pct": 0.0123, "100pct": 0.0004}[f]}
        for f in fractions
    ]
    by_fraction = [
        {"fraction": share[f], "labels": f, "auroc_gain": aurocs["pretrained"][f] - 0.72, "low": -0.1, "high": 0.2} for f in fractions
    ]
    reference = {"mean": 0.72, "low": 0.66, "high": 0.78}
    saved = {"versus": "random", "at": "100pct", "mode": "linear", "auroc": reference, "reached": "10pct", "by_fraction": by_fraction}
    saved |= {"margin": 0.01, "at_chance": False}
    return {
        "format": 2,
        "data": {"name": "nih", "counts": {"images": 761}},
        "encoder": {
            "method": {"name": "pnnclr", "title": "pNNCLR", "uses_labels": False},
            "backbone": {"name": "timm", "model": "resnet18"},
            "pretraining": {"patients": 368, "pixels": 1549},
        },
        "leak_check": {"patients": 102, "images": 150, "leaked": 0},
        "run": {"command": "medssl finetune --labels 10pct", "seed": 0, "long": list(range(100))},
        "task": {
            "column": "finding",
            "kind": "multiclass",
            "classes": [{"name": "normal", "pool": 300, "test": 70}, {"name": "sick", "pool": 309, "test": 80}],
            "pool": {"n_labels": 609, "n_patients": 408},
            "test": {"n_labels": 150, "n_patients": 102},
            "copies_left_out": 0,
        },
        "interval": {"level": 0.95, "bootstraps": 1000, "over": "patients and draws"},
        "cells": [],
        "summary": summary,
        "paired": paired,
        "labels_saved": saved if len(fractions) > 1 else None,
    }


def to_results(document: dict[str, Any]) -> ResultsDocument:
    return ResultsDocument.model_validate(document)


def score(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.04}


def with_everything(document: dict[str, Any]) -> dict[str, Any]:
    """The same with groups of patients, a probe of sites, an audit, scores after temperature and scores of each class."""
    where = {"labels": "10pct", "mode": "linear", "init": "pretrained"}
    groups = [
        {"by": by, "value": value, **where, "n_labels": n * 2, "n_patients": n, "positives": n // 2, "small": n < 10, "auroc": auroc}
        | {"balanced_accuracy": score(0.7)}
        for by, value, n, auroc in (
            ("sex", "F", 50, score(0.81)),
            ("sex", "M", 52, score(0.84)),
            ("site", SCRIPT, 94, score(0.777)),
            ("site", "St Mary", 8, None),
        )
    ]
    classes = document["task"]["classes"]
    for one in document["summary"]:
        one["ece_scaled"] = score(0.0456)
        one["per_class"] = [{"name": c["name"], "auroc": score(0.8), "auprc": score(0.6)} for c in classes]
    return document | {
        "subgroups": groups,
        "site_probe": {"sites": {"a": 90, "b": 60}, "accuracy": score(0.93), "chance": 0.6, "auroc": score(0.95)},
        "audit": {
            "source": "folder",
            "notes": ["a note"],
            "images": {"found": 770, "used": 761, "skipped": {"truncated_pixels": 9}},
            "patients": {"count": 511, "images_each": {"least": 1, "median": 1.0, "most": 12}, "studies": 0, "series": 0},
            "site": {SCRIPT: 700, "St Mary": 61},
            "size": {"224 x 224": 761},
            "spacing_mm": {"known": 0, "unknown": 761},
            "bits": {"8": 761},
            "labels": {"finding": {"normal": 370, "sick": 391}},
            "splits": {},
            "duplicates": {"equal": 3, "leaks": ["3 copies stand on both sides"], "refused": True},
        },
    }


def render(document: dict[str, Any]) -> str:
    return page.render(to_results(document))


class Page(HTMLParser):
    """What a browser would make of it: the elements with their attributes, and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.shown += data


def picture_inputs(
    kind: str = "multiclass", classes: tuple[str, ...] = ("normal", SCRIPT), size: int = 24
) -> tuple[CurveInputs, ImageInputs]:
    """60 test images and 90 training images of noise whose class is a bright corner. The features show it, the probabilities nearly."""
    rng, k = np.random.default_rng(0), len(classes)
    y = rng.integers(0, 2, (150, k)) if kind == "multilabel" else np.arange(150) % k
    images = rng.integers(0, 120, (150, 1, size, size)).astype(np.uint8)
    images[(y[:, 0] if kind == "multilabel" else y) == 0, :, : size // 2, : size // 2] += 130
    truth = y if kind == "multilabel" else np.eye(k)[y]
    features = (np.hstack([truth, truth, truth]) + rng.normal(0, 0.5, (150, 3 * k))).astype(np.float32)

    def a_draw() -> np.ndarray:
        logits = 2 * truth[:60] + rng.normal(0, 1.5, (60, k))
        return 1 / (1 + np.exp(1 - logits)) if kind == "multilabel" else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    network = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, k))
    probs = {"pretrained": [a_draw() for _ in range(3)], "random": [a_draw() for _ in range(3)], "pixels": [a_draw()]}
    return CurveInputs(kind, classes, "10pct", y[:60], probs, temperature=1.5), ImageInputs(
        labels="100pct",
        images=images,
        test=np.arange(60),
        sites=np.array(["", SCRIPT, "St Mary"])[rng.integers(0, 3, 60)],
        pool=np.arange(60, 150),
        pool_y=y[60:],
        encode=lambda rows: features[rows],
        classifier=network,
        prob=probs["pretrained"][0],
    )
