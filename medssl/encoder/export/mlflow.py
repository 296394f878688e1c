"""The encoder as a model of MLflow: a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` take. It needs mlflow and torch, but
neither medssl nor timm.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl.encoder.artefact import probe_image
from medssl.encoder.export.program import save_program
from medssl.errors import UserError
from medssl.nn import Encoder
from medssl.tracking.mlflow_models import DATA, DIGEST, PROGRAM, load_pyfunc, write_mlmodel

TOLERANCE = 1e-5
_BATCHES = (1, 3)  # neither is the number of the examples that the program was made with


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001 - as every format has it
    """Why the format cannot hold this encoder; None, as a program can hold every one."""
    return None


def write(encoder: Encoder, card: Mapping[str, Any], path: Path) -> None:
    """Write the encoder (on the CPU, in evaluation mode) into the new folder `path`. `card`: what card.json says."""
    channels, size = card["channels"], card["size"]
    (path / DATA).mkdir(parents=True)
    save_program(encoder, channels, size, path / DATA / PROGRAM)
    metadata = {
        DIGEST: card["weights_sha256"],
        "intensity": card["intensity"],
        "licence": card["licence"],
        "intended_use": card["intended_use"],
    }
    write_mlmodel(path, (channels, size, size), encoder.num_features, metadata=metadata)


def check(path: Path, encoder: Encoder, card: Mapping[str, Any]) -> float:
    """The largest difference between the features of the folder, loaded as its users load it, and those of the encoder, for one image and
    for three. Raises UserError where it is above 1e-5 of the largest feature."""
    model, largest = load_pyfunc(path), 0.0
    for number in _BATCHES:
        images = probe_image(card["channels"], card["size"]).repeat(number, 1, 1, 1) / torch.arange(1, number + 1)[:, None, None, None]
        with torch.no_grad():
            expected = encoder(images).numpy()
        difference = float(np.abs(model.predict(images.numpy()) - expected).max())
        if difference > TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise UserError(f"The model in {path} gives other features than the encoder: they differ by {difference:g}. Do not use it.")
        largest = max(largest, difference)
    return largest
