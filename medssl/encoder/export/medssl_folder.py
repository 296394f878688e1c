"""medssl's own two files, without what must not leave: for `medssl finetune --encoder FOLDER` in another hospital."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from medssl.encoder import artefact
from medssl.encoder.export.comparison import image_line, largest_difference
from medssl.encoder.export.options import Options
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = "", 1e-5, ()


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001 - the contract of a format
    """Every encoder fits."""
    return None


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Options) -> None:  # noqa: ARG001
    """Writes the weights; `export` writes the card. The bytes are those of the original file, whose SHA-256 the card has."""
    path.mkdir()
    (path / artefact.WEIGHTS).write_bytes(save({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}))


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:  # noqa: ARG001
    """Loads as `usage` says."""
    network, _ = artefact.load(path)
    return largest_difference(network, encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines."""
    return "\n".join(
        [
            "from pathlib import Path",
            "from medssl.encoder import artefact",
            f'network, card = artefact.load(Path("{path}"))',
            f"features = network(images)  {image_line(card)}",
        ]
    )
