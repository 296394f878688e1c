"""The results of a fine-tuning and its classifier.

The results mark a fine-tuning as finished, so they are written after the classifier: `medssl predict` takes no classifier without them.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medssl.config import Config
from medssl.evaluate.experiment import Experiment, ExperimentResult, cell_seed
from medssl.evaluate.models import ood
from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import TestedOn, TrainingFacts
from medssl.evaluate.models.full_finetune import select_validation
from medssl.evaluate.models.pooling import extract_pooled
from medssl.evaluate.results import SPLITS
from medssl.evaluate.schema import RESULTS
from medssl.runs.dataset import PreparedDataset
from medssl.runs.model_cards import FittedClassifier, export_classifier

CELLS = "cells"  # the folder of a run in which fitted classifiers wait until everything is made of them
RESULT_FILES = (RESULTS, SPLITS)


def write_results(
    folder: Path, config: Config, dataset: PreparedDataset, card: Mapping[str, Any], experiment: Experiment, result: ExperimentResult
) -> None:
    """The classifier, and then the predictions, the splits and results.json."""
    classifier = build_classifier(experiment, result.exported_fit)
    if classifier is not None:
        fitted = describe_classifier(experiment, result, classifier)
        export_classifier(folder, config, dataset, card, fitted)
    result.results.write(folder)


def build_classifier(experiment: Experiment, fit: CellFit) -> Classifier | None:
    """A classifier of the first initialisation, in evaluation mode; None for kNN, which has no weights."""
    if not fit.tensors:
        return None
    task = experiment.task
    encoder = copy.deepcopy(next(iter(experiment.inits.values())))
    classifier = Classifier(encoder, len(task.classes), task.multilabel, fit.temperature, experiment.pooling)
    classifier.load_tensors({**classifier.tensors(), **fit.tensors})  # a frozen encoder is not among those of the fit
    return classifier.to(experiment.device).eval()


def describe_classifier(experiment: Experiment, result: ExperimentResult, classifier: Classifier) -> FittedClassifier:
    """The classifier of the largest fraction, what it was fitted on, and what it may call out of distribution."""
    task, draw, settings = experiment.task, result.exported_draw, experiment.settings
    images, volumes, device = experiment.images, experiment.volumes, experiment.device
    if settings.mode == "full":
        features = extract_pooled(ood.FeaturesWithThumbnail(classifier.encoder), images, volumes, draw.rows, device, "mean")
    else:  # the features are there already, of volumes the means before the maxima
        picture = extract_pooled(ood.FeaturesWithThumbnail(), images, volumes, draw.rows, device, "mean")
        given = result.features[np.searchsorted(result.rows, draw.rows), : classifier.encoder.num_features]
        features = np.concatenate([given, picture], axis=1)
    patients, validation = task.patients[draw.rows], np.zeros(len(draw.rows), dtype=bool)
    if settings.mode == "full" and settings.early_stopping:
        validation = select_validation(task.y[draw.rows], patients, cell_seed(experiment, draw))
    statistics = ood.fit_statistics(features[~validation], patients[~validation], features[validation] if validation.any() else None)
    (row,) = [
        row for row in result.results.document.summary
        if (row.labels, row.mode, row.init) == (str(draw.wanted), settings.mode, next(iter(experiment.inits)))
    ]  # fmt: skip
    test = result.results.document.task.test
    training = TrainingFacts(
        labels=row.labels,
        fraction=row.fraction,
        mode=row.mode,
        init=row.init,
        draw=draw.number,
        n_labels=result.exported_fit.labels,
        n_patients=len(np.unique(patients)),
        test=TestedOn(n_labels=test.n_labels, n_patients=test.n_patients, auroc=row.auroc),
    )
    return FittedClassifier(classifier, task.kind, task.classes, training, statistics)
