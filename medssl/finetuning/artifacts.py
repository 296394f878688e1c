"""The files of a fine-tuning: first its classifier and its results, then, as far as they can be made, its pictures and its report.

The results mark a fine-tuning as finished, so they are written after the classifier: `medssl predict` takes no classifier without them.
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medssl.config import Config
from medssl.errors import UserError
from medssl.evaluate.experiment import PIXELS, Experiment, ExperimentResult, cell_seed
from medssl.evaluate.models import ood
from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import TestedOn, TrainingFacts
from medssl.evaluate.models.features import extract
from medssl.evaluate.models.full_finetune import select_validation
from medssl.evaluate.results import SPLITS
from medssl.evaluate.schema import RESULTS
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
    classifier = build_classifier(request, findings.fit)
    if classifier is not None:
        fitted = describe_classifier(request, findings, classifier)
        export_classifier(folder, config, found, card, fitted)
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


def build_classifier(request: Experiment, fit: CellFit) -> Classifier | None:
    """A classifier of the first initialisation, in evaluation mode; None for kNN, which has no weights."""
    if not fit.tensors:
        return None
    task = request.task
    classifier = Classifier(copy.deepcopy(next(iter(request.inits.values()))), len(task.classes), task.multilabel, fit.temperature)
    classifier.load_tensors({**classifier.tensors(), **fit.tensors})  # a frozen encoder is not among those of the fit
    return classifier.to(request.device).eval()


def describe_classifier(request: Experiment, findings: ExperimentResult, classifier: Classifier) -> FittedClassifier:
    """The classifier of the largest fraction, what it was fitted on, and what it may call out of distribution."""
    task, draw, settings = request.task, findings.taken, request.settings
    described = ood.FeaturesWithThumbnail(classifier.encoder)
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
    test = findings.results.document.task.test
    training = TrainingFacts(
        labels=row.labels,
        fraction=row.fraction,
        mode=row.mode,
        init=row.init,
        draw=draw.number,
        n_labels=findings.fit.labels,
        n_patients=len(np.unique(patients)),
        test=TestedOn(n_labels=test.n_labels, n_patients=test.n_patients, auroc=row.auroc),
    )
    return FittedClassifier(classifier, task.kind, task.classes, training, statistics)


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
        classifier=build_classifier(request, findings.fit_shown),
        temperature=findings.fit_shown.temperature,
    )
    return draw_pictures(inputs, request.seed)
