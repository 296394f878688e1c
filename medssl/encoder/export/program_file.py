"""A network as a file with a program of torch.export (.pt2): it runs with torch alone, for any number of images.

The program contains mean and standard deviation, as the encoder does. torch writes for each operation where in the source code it stands,
with the paths of this machine; these are removed. The example images are zeros: none of a patient is in the file.
"""

import io
import json
import re
import zipfile
from pathlib import Path

import torch
from torch import nn

from medssl.encoder.export.program import program_of, quiet
from medssl.errors import UserError
from medssl.types import Size

_METADATA = {"version", "archive_format", "archive_version", "byteorder", "serialization_id"}
_PATH = re.compile(rb"/(?:[\w.+@-]+/)+[\w.+@-]+\.py\b|/(?:home|root|tmp|Users)/[\w.+@-]+")


def save_program(network: nn.Module, channels: int, size: Size, file: Path) -> None:
    """Write the program of a network that takes images [N, channels, size, size], float32 in [0, 1], N from 1 on. Weights and results are
    on the CPU and in evaluation mode. Raises RuntimeError where a path of this machine is in the file."""
    with quiet():
        torch.export.save(program_of(network, channels, size), str(file))
    if found := find_paths(file):
        raise RuntimeError(f"the program names paths of this machine: {', '.join(found)}")


def find_paths(file: Path) -> list[str]:
    """The paths of a machine that the texts of a .pt2 file name, such as those of source files."""
    with zipfile.ZipFile(file) as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    return sorted({found.decode() for text in texts for found in _PATH.findall(text)})


def load_program(file: Path) -> nn.Module:
    """The program in a .pt2 file, on the CPU. Raises UserError for a file that is none, and for one with pickled parts: torch would run the
    code that such parts may hold."""
    try:
        with zipfile.ZipFile(file) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        if pickled := _pickled_parts(contents):
            raise UserError(
                f"{file.name} has parts that may hold code ({', '.join(pickled[:3])}). It was not written by medssl: do not use it."
            )
        return torch.export.load(str(file)).module().requires_grad_(False)
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(f"{file.name} is no program of torch.export: {type(error).__name__}") from None


def _pickled_parts(contents: dict[str, bytes]) -> list[str]:
    """The names of all parts that are neither JSON, nor short facts, nor the bare numbers of a tensor, nor what torch reads without running
    code."""
    tensors: set[str] = set()
    for name, content in contents.items():
        if name.endswith("_config.json"):
            entries = json.loads(content)["config"].values()
            folder = name.rpartition("/")[0]
            tensors |= {f"{folder}/{entry['path_name']}" for entry in entries if entry["use_pickle"] is False}
            tensors -= {f"{folder}/{entry['path_name']}" for entry in entries if entry["use_pickle"] is not False}
    return [name for name, content in contents.items() if name not in tensors and not _is_harmless(name, content)]


def _is_harmless(name: str, content: bytes) -> bool:
    if name.endswith(".json") or name.rpartition("/")[2] in _METADATA:
        return True
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # an UnpicklingError, or whatever bytes that are no pickle raise
        return False
    return True
