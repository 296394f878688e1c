"""The files of a fine-tuning: first its classifier and its results, then, as far as they can be made, its pictures and its report.

The results mark a fine-tuning as finished, so they are written after the classifier: `medssl predict` takes no classifier without them.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from medssl.config import Config
from medssl.errors import UserError
from medssl.evaluate.experiment import PIXELS, Experiment, ExperimentResult, cell_seed
from medssl.evaluate.models import ood
from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.models.features import extract
from medssl.evaluate.models.full_finetune import select_validation
from medssl.evaluate.results import SPLITS
from medssl.evaluate.schema import RESULTS
from medssl.nn import Encoder
from medssl.report import LabelledImages, PictureInputs, Pictures, draw_pictures, write_report
from medssl.report.run_files import FIGURES, REPORT, write_figures
from medssl.runs.dataset import PreparedDataset, evenly_spaced
from medssl.runs.model_cards import FittedClassifier, export_classifier

CELLS = "cells"  # the folder of a run in which fitted classifiers wait until everything is made of them
RESULT_FILES = (RESULTS, SPLITS)
REPORT_FILES = (REPORT, FIGURES)
_POOL = 5000  # labelled training images among which neighbours are looked for


def write_results(
    folder: Path, config: Config, found: PreparedDataset, card: Mapping[str, Any], request: Experiment, findings: ExperimentResult
) -> None:
    """The classifier, and then the predictions, the splits and results.json."""
    network = build_network(request, findings.fit)
    if network is not None:
        write_classifier(folder, config, found, card, request, findings, network[0])
    findings.results.write(folder)


def write_pictures(folder: Path, request: Experiment, findings: ExperimentResult, warn: Callable[[str], None]) -> bool:
    """The report and its figures; whether all of them could be made. What fails is a warning: the results are there already."""
    document, failures = findings.results.document, list[str]()
    pictures: Pictures | None = None
    try:
        pictures = make_pictures(request, findings)
    except Exception as error:  # whatever MONAI, scikit-learn, matplotlib or a GPU without memory raise
        failures.append(f"Curves, Grad-CAM, map of the features and neighbours: {_reason(error)}")
    try:
        write_report(document, folder / REPORT, pictures)
        write_figures(folder, document, pictures)
    except Exception as error:
        failures.append(f"{REPORT} and {FIGURES}: {_reason(error)}")
    for failure in failures:
        warn(
            f"{failure}\nThe results in {folder} are complete. `medssl report {folder}` makes the page later, without what needs the "
            f"images; the same command again, with --out {folder}, makes all of it from the classifiers that are kept there."
        )
    return not failures


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def build_network(request: Experiment, fit: CellFit) -> nn.Sequential | None:
    """The `encoder` and the linear `head` of a classifier of the first initialisation, images in [0, 1] to logits; None for kNN, which
    has no weights."""
    tensors = fit.tensors
    if not tensors:
        return None
    encoder = copy.deepcopy(next(iter(request.inits.values())))
    assert isinstance(encoder, Encoder)
    if tuned := {name.removeprefix("encoder."): tensor for name, tensor in tensors.items() if name.startswith("encoder.")}:
        encoder.load_state_dict(tuned, strict=True)
    head = nn.Linear(tensors["weight"].shape[1], len(tensors["weight"]))
    head.load_state_dict({name: tensors[name].float() for name in ("weight", "bias")})
    return nn.Sequential(OrderedDict(encoder=encoder, head=head)).to(request.device).eval()


def write_classifier(
    folder: Path,
    config: Config,
    found: PreparedDataset,
    card: Mapping[str, Any],
    request: Experiment,
    findings: ExperimentResult,
    encoder: nn.Module,
) -> None:
    """classifier.safetensors and classifier.json of that classifier, and what it may call out of distribution."""
    assert isinstance(encoder, Encoder)
    task, draw, settings = request.task, findings.taken, request.settings
    described = ood.FeaturesWithThumbnail(encoder)
    at = np.searchsorted(findings.rows, draw.rows)
    if settings.mode == "full":
        features = extract(described, request.images, draw.rows, request.device)
    else:  # the features are there already
        picture = extract(ood.FeaturesWithThumbnail(), request.images, draw.rows, request.device)
        features = np.concatenate([findings.features[at], picture], axis=1)
    patients, held = task.patients[draw.rows], np.zeros(len(draw.rows), dtype=bool)
    if settings.mode == "full" and settings.early_stopping:
        held = select_validation(task.y[draw.rows], patients, cell_seed(request, draw))
    statistics = ood.fit_statistics(features[~held], patients[~held], features[held] if held.any() else None)
    (row,) = [
        row for row in findings.results.document.summary
        if (row.labels, row.mode, row.init) == (str(draw.wanted), settings.mode, next(iter(request.inits)))
    ]  # fmt: skip
    weight, bias = (findings.fit.tensors[name].numpy() for name in ("weight", "bias"))
    classifier = FittedClassifier(encoder, weight, bias, findings.fit.temperature, task.kind, task.classes, statistics)
    training = {
        **{key: getattr(row, key) for key in ("labels", "fraction", "mode", "init")},
        "draw": draw.number,
        "n_labels": findings.fit.labels,
        "n_patients": len(np.unique(patients)),
        "test": {**findings.results.document.task.test.model_dump(), "auroc": row.auroc.model_dump()},
    }
    export_classifier(folder, config, found, card, classifier, training)


def make_pictures(request: Experiment, findings: ExperimentResult) -> Pictures:
    """Of the fraction that the report speaks of first: its classifiers, and the first of them in heat maps. The neighbours are looked for
    among all labels that were drawn."""
    task, cells = request.task, findings.cells
    labels, mode = str(findings.shown.wanted), request.settings.mode
    probs: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        if cell.labels == labels and (cell.mode == mode or cell.init == PIXELS):
            probs.setdefault(cell.init, []).append(cell.prob)
    test, pool = (
        LabelledImages(rows, task.y[rows], findings.features[np.searchsorted(findings.rows, rows)])
        for rows in (task.test, evenly_spaced(findings.taken.rows, _POOL))
    )
    sites = request.table["site"].to_numpy(dtype=str)[task.test] if "site" in request.table else np.full(len(task.test), "")
    inputs = PictureInputs(
        kind=task.kind,
        classes=task.classes,
        labels=labels,
        probs=probs,
        images=request.images,
        test=test,
        pool=pool,
        sites=sites,
        classifier=build_network(request, findings.fit_shown),
        temperature=findings.fit_shown.temperature,
    )
    return draw_pictures(inputs, request.seed)
