"""The file of weights, and what stands in it: tensors, numbers and text, never code.

Files of torch are read with `weights_only`. One class is allowed beside tensors, argparse.Namespace, in which many trainings keep their
options.
"""

import hashlib
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.serialization import safe_globals

from medssl.errors import UserError

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")
_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_REFUSED = {  # kinds of files: what they are, and how to get weights that can be read
    "keras": "has weights of Keras, whose networks are not those of timm. Take the weights for torch where both are offered: RadImageNet "
    "has ResNet50.pt.",
    "onnx": "is a program of ONNX, in which layers have lost their names. Take the weights of the torch network that it was exported from: "
    "torch.save(model.state_dict(), 'weights.pth').",
    "torchscript": "is a program of TorchScript. Take the weights out of it, in Python: torch.save(torch.jit.load('{name}').state_dict(), "
    "'weights.pth').",
    "pt2": "is a program of torch.export. Take the weights out of it, in Python: torch.save(torch.export.load('{name}').state_dict, "
    "'weights.pth').",
    "lightly_train": "is a checkpoint of lightly-train, which holds Python objects. Let lightly-train write the weights: lightly-train "
    "export out=weights.pt checkpoint={name} part=model format=torch_state_dict.",
}
_KIND_OF_SUFFIX = {".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".onnx": "onnx", ".pt2": "pt2"}


def find_file(path: Path) -> Path:
    """The file of weights that `path` names: itself, or that of a folder as model hubs offer it. Raises UserError where there is none."""
    files = [path] if path.is_file() else [path / name for name in _HUB_NAMES if (path / name).is_file()]
    if not files:
        raise UserError(
            f"No encoder at {path}: neither a finished pretraining, nor a file of weights, nor a folder with {' or '.join(_HUB_NAMES)}."
        )
    if files[0].suffix.lower() not in (*_SUFFIXES, *_KIND_OF_SUFFIX):
        raise UserError(f"No encoder at {path}: {files[0].name} is no file of weights that is known ({', '.join(_SUFFIXES)}).")
    return files[0]


def digest_of(file: Path) -> str:
    """The SHA-256 of the file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read(file: Path) -> Mapping[str, Any]:
    """What the file holds, on the CPU. Raises UserError for a file of another kind, a damaged one, and one that holds code."""
    if kind := _kind_of_program(file):
        raise UserError(f"{file.name} {_REFUSED[kind].format(name=file.name)}")
    try:
        if file.suffix.lower() == ".safetensors":
            return load_file(file)
        with safe_globals([Namespace]):
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(_explain_unreadable(file, error)) from None
    if not isinstance(loaded, Mapping):
        raise UserError(f"{file.name} holds no tensors by name. Save a state_dict: torch.save(model.state_dict(), 'weights.pth').")
    return {str(name): value for name, value in loaded.items()}


def _kind_of_program(file: Path) -> str:
    """What the file is, if it is of a kind that is known and refused; "" otherwise."""
    if kind := _KIND_OF_SUFFIX.get(file.suffix.lower()):
        return kind
    with file.open("rb") as stream:
        if stream.read(len(_HDF5)) == _HDF5:
            return "keras"
    if not zipfile.is_zipfile(file):
        return ""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return ""
    return "torchscript" if any("/code/" in name for name in names) else "pt2" if any(n.endswith("/archive_format") for n in names) else ""


def _explain_unreadable(file: Path, error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found and found[1].startswith("lightly_train."):
        return f"{file.name} {_REFUSED['lightly_train'].format(name=file.name)}"
    what = f"it holds an object of {found[1]}" if found else type(error).__name__
    return (
        f"{file.name} cannot be read as weights: {what}. Only tensors are loaded, never code. With the program that wrote the file, save "
        "the weights alone: torch.save(model.state_dict(), 'weights.pth')."
    )
