"""Export the encoder or the classifier of a finished run, with a card that describes data, method and intended use."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medssl import __version__, methods
from medssl.config import Config
from medssl.data.split import list_seen, seen_counts
from medssl.data.store import contract
from medssl.data.volume_slices import samples_in_words, samples_of, store_has_slices
from medssl.encoder import artefact, model_card
from medssl.evaluate import EncoderFacts, Kind
from medssl.evaluate.models import Classifier, ClassifierCard, Statistics, TrainingFacts, classifier_file
from medssl.nn import Encoder
from medssl.runs.dataset import PreparedDataset
from medssl.runs.next_command import advised_labels
from medssl.runs.run_dir import now
from medssl.runs.start import card_of_start, continued, method_of, network_of, without_path

INTENDED_USE = (
    "Features for research on images prepared in the same way. Not a medical device. The weights may hold traces of single training "
    "images: treat them as you treat the data they come from."
)
PREDICTIONS_USE = (
    "Research on images prepared in the same way, of the kind of people and scanners that it was tested on. Not a medical device: do "
    "not base a decision about a patient on it. The weights may hold traces of single training images: treat them as you treat the data "
    "they come from."
)


def export_encoder(folder: Path, config: Config, dataset: PreparedDataset, encoder: Encoder, facts: Mapping[str, float]) -> None:
    """Write encoder.safetensors, card.json and MODEL_CARD.md. The cards hold no path; card.json has keyed hashes of the training patients
    and of their pixels.

    `facts`: the last metrics of the training. "method" in the card has the title of the method and whether it uses labels, as a report
    may be written by an installation without that method.
    """
    method = config.method.name
    table = dataset.store.table.iloc[dataset.pretraining]
    card = {
        "method": {"name": method, "title": methods.title(method), "uses_labels": methods.uses_labels(method)},
        "intensity": "float in [0, 1], brighter is more; standardised by mean and std inside the encoder",
        "preparation": dataset.store.card["preparation"] | {"settings": dataset.store.card["settings"]},
        "data": {
            **{key: dataset.store.card[key] for key in ("fingerprint", "content", "counts")},
            "patients": dataset.origin.to_dict(),
            "samples": samples_in_words(dataset.store, dataset.pretraining),
        },
        "stratum": dataset.stratum,
        "leaks": {"policy": config.data.leaks, **dataset.leaks.counts()},
        "pretraining": list_seen(table, dataset.store.card["site"]),
        "advised_labels": advised_labels(config, dataset),
        "config": without_path(config),
        "facts": {key: value for key, value in facts.items() if value == value},
        "provenance": {"medssl": __version__, "torch": torch.__version__, "finished": now(), "run": folder.name},
        "licence": model_card.LICENCE,
        "citation": model_card.CITATION,
        "intended_use": INTENDED_USE,
    }
    artefact.save(
        encoder,
        folder,
        backbone=network_of(config),
        channels=config.data.channels,
        size=config.data.size,
        card=continued(card, card_of_start(folder)),
    )


@dataclass(frozen=True)
class FittedClassifier:
    """A classifier with the kind and the classes of its task, what it was fitted on, and the `statistics` of its training images."""

    classifier: Classifier
    kind: Kind
    classes: tuple[str, ...]
    training: TrainingFacts
    statistics: Statistics


def export_classifier(folder: Path, config: Config, dataset: PreparedDataset, origin: Mapping[str, Any], fitted: FittedClassifier) -> None:
    """Write classifier.safetensors and classifier.json. The card holds no path, and only the number of patients.

    `origin`: the card of the encoder that the fine-tuning started from.
    """
    values, encoder = without_path(config), fitted.classifier.encoder
    card = ClassifierCard(
        kind=fitted.kind,
        classes=fitted.classes,
        temperature=fitted.classifier.temperature,
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
        **{key: origin[key] for key in ("backbone", "channels", "size", "intensity")},
        contract=contract(dataset.store.card),
        volumes=store_has_slices(dataset.store),
        pooling=fitted.classifier.pooling,
        data={key: dataset.store.card[key] for key in ("source", "fingerprint", "content", "counts")},
        config={key: values[key] for key in ("data", "finetune", "seed")},
        training=fitted.training,
        encoder=EncoderFacts(
            method=method_of(origin),
            **{key: origin[key] for key in ("weights_sha256", "facts", "provenance")},
            pretraining=seen_counts(origin),
            samples=samples_of(origin),
        ),
        provenance={
            "medssl": __version__,
            **{package: version(package) for package in ("torch", "scikit-learn")},
            "finished": now(),
            "run": folder.name,
        },
        licence=model_card.LICENCE,
        intended_use=PREDICTIONS_USE,
    )
    classifier_file.save(folder, fitted.classifier, fitted.statistics, card)
