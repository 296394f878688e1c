"""The encoder as a model of MLflow: a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` take. It needs mlflow and torch, but
neither medssl nor timm.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medssl.encoder.export.comparison import largest_difference, shape_text
from medssl.encoder.export.program_file import save_program
from medssl.nn import Encoder
from medssl.tracking.mlflow_models import DATA, DIGEST, PROGRAM, load_pyfunc, write_mlmodel
from medssl.types import edges

SUFFIX, TOLERANCE, PACKAGES = "", 1e-5, ()
_SAID = ("intensity", "licence", "intended_use")  # cards of before their time have not all of them


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001 - as every format has it
    """Why the format cannot hold this encoder; None, as a program can hold every one."""
    return None


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Any = None) -> None:  # noqa: ARG001 - as every format has it
    """Write the encoder (on the CPU, in evaluation mode) into the new folder `path`. `card`: what card.json says."""
    channels, size = card["channels"], card["size"]
    (path / DATA).mkdir(parents=True)
    save_program(encoder, channels, size, path / DATA / PROGRAM)
    metadata = {DIGEST: card["weights_sha256"], **{name: card[name] for name in _SAID if name in card}}
    write_mlmodel(path, (channels, *edges(size)), encoder.num_features, metadata=metadata)


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Any = None) -> float:  # noqa: ARG001 - as every format has it
    """Loads as `usage` says."""
    model = load_pyfunc(path)
    return largest_difference(lambda images: torch.from_numpy(model.predict(images.numpy())), encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: Any, options: Any = None) -> str:  # noqa: ARG001 - as every format has it
    """The Python lines with which the model is used."""
    shape = f"[N, {shape_text(card)}]"
    return "\n".join(
        [
            "import mlflow",
            f'model = mlflow.pyfunc.load_model("{path}")',
            f"features = model.predict(images)  # images: a NumPy array, float32 {shape} in [0, 1]",
        ]
    )
