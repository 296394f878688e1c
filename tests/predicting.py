"""A small linear classifier as a fine-tuning leaves it, and pictures to predict; what the tests of `medssl predict` are made of."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.config import Config, resolve
from medssl.encoder import artefact
from medssl.evaluate.models import ood
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import TestedOn, TrainingFacts
from medssl.evaluate.models.features import extract
from medssl.evaluate.models.linear_probe import fold_scaler
from medssl.evaluate.schema import RESULTS, Score
from medssl.runs.dataset import prepare_dataset
from medssl.runs.model_cards import FittedClassifier, export_classifier, export_encoder
from medssl.runs.resolve_config import list_source
from medssl.runs.run_dir import write_description
from medssl.types import Reporter

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
CPU = torch.device("cpu")
Command = Callable[..., tuple[int, str]]


@dataclass(frozen=True)
class Model:
    """A fine-tuning's folder, what was fitted there, and the classes."""

    folder: Path
    encoder: torch.nn.Module
    probe: Pipeline

    def says(self, images: np.ndarray) -> np.ndarray:
        """The probabilities of uint8 images [n, 1, 16, 16] by scikit-learn."""
        return self.probe.predict_proba(extract(self.encoder, images, np.arange(len(images)), CPU).astype(np.float64))


def exported_encoder(
    folder: Path, pictures: Path, reporter: Reporter, kind: str = "pretrain", seed: int = 0, source: str = "folder"
) -> tuple[Config, Any, Any]:
    """An encoder with random weights in `folder`, as a pretraining on the pictures leaves one; its configuration, images and network.
    `source`: of what kind the pictures are."""
    folder.mkdir(parents=True)
    config = resolve({"data": {"path": str(pictures), "size": 16, "source": {"name": source}}, "backbone": BACKBONE})
    found = prepare_dataset(list_source(config.data), config, reporter)
    encoder = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed)
    write_description(folder, config, kind)
    export_encoder(folder, config, found, encoder, {})
    return config, found, encoder


def fitted_model(folder: Path, pictures: Path, reporter: Reporter) -> Model:
    """A linear classifier of the pictures, in `folder`."""
    config, found, encoder = exported_encoder(folder, pictures, reporter, "finetune")
    _, origin = artefact.load(folder)
    (folder / artefact.CARD).unlink()
    rows = np.flatnonzero(found.roles == "train")
    described = extract(ood.FeaturesWithThumbnail(encoder), found.store.images, rows, CPU)
    features = described[:, : encoder.num_features]
    probe = make_pipeline(StandardScaler(), LogisticRegression()).fit(features.astype(np.float64), found.labels[rows])
    weight, bias = fold_scaler(probe[0], probe[1], 2)
    classifier = Classifier(encoder, 2)
    classifier.load_tensors({**classifier.tensors(), "weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    statistics = ood.fit_statistics(described, found.patients[rows].astype(str))
    training = TrainingFacts(
        labels="100pct",
        fraction=1.0,
        draw=0,
        mode="linear",
        init="pretrained",
        n_labels=48,
        n_patients=24,
        test=TestedOn(n_labels=12, n_patients=6, auroc=Score(mean=0.875, low=0.75, high=1.0)),
    )
    fitted = FittedClassifier(classifier, "multiclass", found.classes, training, statistics)
    export_classifier(folder, config, found, origin, fitted)
    (folder / RESULTS).write_text("{}")  # a finished fine-tuning has some
    return Model(folder, encoder, probe)


def table(file: str = "predictions.csv") -> list[dict[str, str]]:
    with Path(file).open(encoding="utf-8", newline="") as content:
        return list(csv.DictReader(content))


def picture(file: Path, seed: int = 0, edge: int = 16) -> np.ndarray:
    """A picture of noise, as it is stored [1, 16, 16]."""
    pixels = np.random.default_rng(seed).integers(60, 180, (edge, edge), np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return pixels[None]
