"""The cache of finished cells, so that a study that was interrupted, or that is extended, fits none of them twice.

A cell's name in the folder is the hash of all that it depends on: the data's fingerprint, the rows that were drawn and tested, the weights
that it started from, the settings of its mode, the seed, the text of the modules that fit and the versions of the libraries. A cell that
cannot be read is fitted again.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import medssl
from medssl.files import write_atomically

_FITTING = (
    *(
        "models/attention_probe",
        "models/classifier",
        "models/features",
        "models/gated_attention",
        "models/full_finetune",
        "models/knn",
        "models/linear_probe",
        "models/pooling",
    ),
    "stats/calibration",
)
_LIBRARIES = ("monai", "numpy", "scikit-learn", "timm", "torch")


@dataclass(frozen=True)
class CellFit:
    """What fitting one classifier gave: probabilities [n, k] of the test images, temperature, how many labels it was given, and, where it
    is to be used later, its tensors: "weight" [k, d] and "bias" [k] of the head, "attention.*", and after full fine-tuning "encoder.*"."""

    prob: np.ndarray
    temperature: float
    labels: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class CellCache:
    """The folder of finished cells; None keeps nothing."""

    folder: Path | None

    def find(self, key: Mapping[str, Any], tensors: bool) -> CellFit | None:
        """The cell with that key, with its tensors where they are wanted; None where it is not there whole."""
        try:
            with np.load(io.BytesIO(self._path(key, ".npz").read_bytes()), allow_pickle=False) as cell:
                prob, temperature, labels = cell["prob"], float(cell["temperature"]), int(cell["labels"])
                sha256 = str(cell["tensors"])
            content = self._path(key, ".safetensors").read_bytes() if tensors else b""
            if tensors and hashlib.sha256(content).hexdigest() != sha256:
                return None
            return CellFit(prob, temperature, labels, load(content) if tensors else {})
        except Exception:  # missing, damaged, or written by another version: fit it again
            return None

    def keep(self, key: Mapping[str, Any], fit: CellFit) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer, content = io.BytesIO(), save(dict(fit.tensors)) if fit.tensors else b""
        sha256 = hashlib.sha256(content).hexdigest()  # the archive checks itself, safetensors do not
        np.savez(buffer, prob=fit.prob, temperature=fit.temperature, labels=fit.labels, tensors=sha256)
        if content:
            write_atomically(self._path(key, ".safetensors"), content)
        write_atomically(self._path(key, ".npz"), buffer.getvalue())

    def _path(self, key: Mapping[str, Any], suffix: str) -> Path:
        if self.folder is None:
            raise FileNotFoundError
        return self.folder / (digest(key, _code_digest()) + suffix)


def digest(*values: Any) -> str:
    """Of numbers, texts, lists and mappings of them, and of arrays."""
    whole = hashlib.sha256()
    for value in values:
        whole.update(value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value, sort_keys=True, default=str).encode())
    return whole.hexdigest()


def weights_digest(network: nn.Module) -> str:
    """Of all tensors of a network, and of its layers as it prints them: other strides or pooling leave the tensors as they are."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    whole = hashlib.sha256(f"{type(network).__qualname__} {network}".encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


@cache
def _code_digest() -> str:
    """Of the text of the modules that fit and predict, and of the versions of medssl and of the libraries: others fit anew."""
    here = Path(__file__).parents[1]
    return digest(medssl.__version__, *map(version, _LIBRARIES), *((here / f"{name}.py").read_text("utf-8") for name in _FITTING))
