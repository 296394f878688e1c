"""The classifier as a file: `classifier.safetensors` with encoder, linear head and what is known of the training images' features, and
`classifier.json` with all that is needed to use them rightly.

Loading is strict, as an encoder's is: a tensor too many or too few, a changed word in the card, a digest, features or probabilities of the
probe image that differ are an error.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn

from medssl.encoder.artefact import build_encoder, probe_image
from medssl.errors import UserError
from medssl.evaluate.models.ood import EDGE, QUANTILES, Statistics
from medssl.evaluate.task import Kind
from medssl.files import write_atomically
from medssl.nn import Encoder

FORMAT = 2
WEIGHTS, CARD = "classifier.safetensors", "classifier.json"
_TOLERANCE = 1e-3


class Classifier(nn.Module):
    """An encoder, a linear head on its features, and the training images' place among them; all but the encoder in float64.

    `temperature`: what the logits are divided by, so that 0.8 is right in 80 of 100 cases. `kind`: "multiclass" and "ordinal" share the
    probability 1 among the classes; of "multilabel" each label has its own.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    whitening: Tensor
    quantiles: Tensor

    def __init__(self, encoder: Encoder, outputs: int, temperature: float, kind: str) -> None:
        super().__init__()
        self.encoder, self.temperature, self.kind = encoder, temperature, kind
        d = encoder.num_features
        D = d + encoder.mean.numel() * EDGE**2
        shapes = {"weight": (outputs, d), "bias": (outputs,), "mean": (D,), "whitening": (D, D), "quantiles": (QUANTILES,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def forward(self, images: Shaped[Tensor, "b c h w"]) -> Float64[Tensor, "b k"]:
        """The logits, before the temperature."""
        return self.logits(self.encoder(images))

    def logits(self, features: Float[Tensor, "b d"]) -> Float64[Tensor, "b k"]:
        """Those of the encoder's features."""
        return features.double() @ self.weight.T + self.bias

    def probabilities(self, logits: Float64[Tensor, "b k"]) -> Float64[Tensor, "b k"]:
        """Calibrated; of "multilabel" each label for itself, otherwise rows sum to 1."""
        scaled = logits / self.temperature
        return scaled.sigmoid() if self.kind == "multilabel" else scaled.softmax(dim=1)

    @property
    def statistics(self) -> Statistics:
        """What tells how far out an image lies, from what `ood.FeaturesWithThumbnail` makes of it with the encoder."""
        return Statistics(*(part.cpu().numpy() for part in (self.mean, self.whitening, self.quantiles)))


def save(
    folder: Path,
    *,
    encoder: Encoder,
    weight: Float[np.ndarray, "k d"],
    bias: Float[np.ndarray, " k"],
    temperature: float,
    kind: str,
    classes: Sequence[str],
    statistics: Statistics,
    card: Mapping[str, Any],
) -> None:
    """Write weights and card into `folder`, each whole or not at all, the card last: with it the folder holds a classifier.

    `classes`: names of the head's k outputs. `card`: "backbone", "channels" and "size" of the encoder, and what else the run knows.
    """
    assert kind in get_args(Kind) and temperature > 0 and len(classes) == len(set(classes)) == len(bias) == len(weight) >= 1
    classifier = Classifier(encoder, len(classes), float(temperature), kind)
    kept = {"weight": weight, "bias": bias, **vars(statistics)}
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {name: torch.from_numpy(np.asarray(values, np.float64)) for name, values in kept.items()}
    classifier.load_state_dict(tensors, strict=True)
    weights = dump_tensors({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})
    full = {
        "format": FORMAT,
        "kind": kind,
        "classes": list(classes),
        "temperature": float(temperature),
        "mean": encoder.mean.flatten().tolist(),
        "std": encoder.std.flatten().tolist(),
        **card,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "probe": _probe(classifier, card["channels"], card["size"]),
    }
    write_atomically(folder / WEIGHTS, weights)
    text = json.dumps({**full, "card_sha256": _digest(full)}, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / CARD, f"{text}\n".encode())


def load(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """The classifier, in evaluation mode on the CPU, and its card. `path`: a run folder or its `classifier.safetensors`.

    Raises UserError where there is none, or anything in it does not fit the rest.
    """
    folder, file = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    if file.name != WEIGHTS or not file.is_file() or not (folder / CARD).is_file():
        raise UserError(f"No classifier at {path}: {WEIGHTS} and {CARD} belong side by side. Name a finished fine-tuning run.")
    weights = file.read_bytes()
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        if card["format"] != FORMAT or hashlib.sha256(weights).hexdigest() != card["weights_sha256"]:
            raise UserError(f"{file} is not the file that {CARD} describes (format or SHA-256 differ). Copy both again.")
        if card.pop("card_sha256") != _digest(card):
            raise UserError(f"{folder / CARD} was changed after it was written (SHA-256 differs). Copy it again.")
        mean, std = torch.tensor(card["mean"]), torch.tensor(card["std"])
        encoder = build_encoder(card["backbone"], card["channels"], card["size"], mean, std, seed=0)
        classifier = Classifier(encoder, len(card["classes"]), card["temperature"], card["kind"]).eval()
        classifier.load_state_dict(load_tensors(weights), strict=True)
        found = _probe(classifier, card["channels"], card["size"])
        same = all(_close(found[name], card["probe"][name]) for name in ("features", "probabilities"))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file} is no medssl classifier: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    if not same:
        raise UserError(f"{file}: the probe image gives other numbers than the card says. Weights and card do not belong together.")
    return classifier, card


@torch.no_grad()
def _probe(classifier: Classifier, channels: int, size: int) -> dict[str, list[float]]:
    """What the probe image gives, in evaluation mode; the encoder's own mode is left as it was."""
    training, device = classifier.encoder.training, classifier.encoder.mean.device
    features = classifier.encoder.eval()(probe_image(channels, size).to(device)).float().cpu()
    classifier.encoder.train(training)
    return {"features": features[0].tolist(), "probabilities": classifier.probabilities(classifier.logits(features))[0].tolist()}


def _close(found: Sequence[float], expected: Sequence[float]) -> bool:
    return len(found) == len(expected) and np.abs(np.subtract(found, expected)).max() <= _TOLERANCE * np.abs(expected).max()


def _digest(card: Mapping[str, Any]) -> str:
    """Over what the card says, whatever its layout."""
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()
