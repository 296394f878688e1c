"""The classifier as a file: `classifier.safetensors` with encoder, linear head and what is known of the training images' features, and
`classifier.json` with all that is needed to use them rightly.

Loading is strict, as an encoder's is: a tensor too many or too few, a changed word in the card, a digest, features or probabilities of the
probe image that differ are an error.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors

from medssl.encoder.artefact import build_encoder, check_finite, probe_output
from medssl.errors import UserError
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import FORMAT, ClassifierCard, ProbeOutput
from medssl.evaluate.models.ood import QUANTILES, Statistics, thumbnail_width
from medssl.evaluate.models.pooling import pool_alone
from medssl.files import write_atomically

WEIGHTS, CARD = "classifier.safetensors", "classifier.json"
_TOLERANCE = 1e-3


def save(folder: Path, classifier: Classifier, statistics: Statistics, card: ClassifierCard) -> None:
    """Write weights and card into `folder`, each whole or not at all, the card last: with it the folder holds a classifier.

    `card`: what the run knows; the digest of the weights and the output of the probe image are added to it.
    """
    assert len(card.classes) == len(set(card.classes)) == classifier.head.out_features
    assert (card.kind == "multilabel") == classifier.multilabel and card.temperature == classifier.temperature
    assert card.pooling == classifier.pooling
    described = {name: torch.from_numpy(np.ascontiguousarray(part, np.float64)) for name, part in vars(statistics).items()}
    tensors = classifier.tensors() | described
    weights = dump_tensors(tensors)
    written = {"format": FORMAT, "weights_sha256": hashlib.sha256(weights).hexdigest(), "probe": _probe(classifier, card)}
    full = card.model_copy(update=written).model_dump(mode="json", exclude_unset=True)
    write_atomically(folder / WEIGHTS, weights)
    text = json.dumps({**full, "card_sha256": _digest(full)}, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / CARD, f"{text}\n".encode())


def load(path: Path) -> tuple[Classifier, Statistics, ClassifierCard]:
    """The classifier, in evaluation mode on the CPU; the place of its training images among all images; and its card. `path`: a run folder
    or its `classifier.safetensors`.

    Raises UserError where there is none, or anything in it does not fit the rest.
    """
    folder, file = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    if file.name != WEIGHTS or not file.is_file() or not (folder / CARD).is_file():
        raise UserError(f"No classifier at {path}: {WEIGHTS} and {CARD} belong in the same folder. Name a finished fine-tuning run.")
    try:
        weights = file.read_bytes()
        values = json.loads((folder / CARD).read_text("utf-8"))
        if values["format"] != FORMAT or hashlib.sha256(weights).hexdigest() != values["weights_sha256"]:
            raise UserError(f"{file} is not the file that {CARD} describes (format or SHA-256 differ). Copy both again.")
        if values.pop("card_sha256") != _digest(values):
            raise UserError(f"{folder / CARD} was changed after it was written (SHA-256 differs). Copy it again.")
        card, tensors = ClassifierCard.model_validate(values), load_tensors(weights)
        check_finite(tensors, file)
        encoder = build_encoder(card.backbone, card.channels, card.size, torch.tensor(card.mean), torch.tensor(card.std), seed=0)
        statistics = _statistics(tensors, encoder.num_features + thumbnail_width(card.channels, card.size))
        classifier = Classifier(encoder, len(card.classes), card.kind == "multilabel", card.temperature, card.pooling).eval()
        classifier.load_tensors(tensors)
        output = _probe(classifier, card)
        same = _close(output.features, card.probe.features) and _close(output.probabilities, card.probe.probabilities)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file} is no medssl classifier: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    if not same:
        raise UserError(f"{file}: the probe image gives other numbers than the card says. Weights and card do not belong together.")
    return classifier, statistics, card


def _statistics(tensors: dict[str, torch.Tensor], width: int) -> Statistics:
    """Those among the tensors, taken out of them. Raises KeyError for one that is missing, ValueError for another shape."""
    shapes = {"mean": (width,), "whitening": (width, width), "quantiles": (QUANTILES,)}
    parts = {name: tensors.pop(name).numpy() for name in shapes}
    if (found := {name: part.shape for name, part in parts.items()}) != shapes:
        raise ValueError(f"shapes {found} instead of {shapes}")
    return Statistics(**parts)


def _probe(classifier: Classifier, card: ClassifierCard) -> ProbeOutput:
    features = probe_output(classifier.encoder, card.channels, card.size)
    pooled = pool_alone(features[None], classifier.pooling)
    probabilities = classifier.probabilities(pooled.to(classifier.head.weight.device))[0]
    return ProbeOutput(features=tuple(features.tolist()), probabilities=tuple(probabilities.tolist()))


def _close(output: Sequence[float], expected: Sequence[float]) -> bool:
    if len(output) != len(expected) or not np.isfinite(expected).all():
        return False
    return bool(np.abs(np.subtract(output, expected)).max() <= _TOLERANCE * np.abs(expected).max())  # NaN is not close


def _digest(card: Mapping[str, Any]) -> str:
    """Over what the card says, whatever its layout."""
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()
