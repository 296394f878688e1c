"""A .pt2 file of torch.export: standardisation and backbone, for any number of images. The user needs torch and nothing else.

The card is in the file as the extra file "card.json".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medssl.encoder.export.comparison import image_line, largest_difference
from medssl.encoder.export.options import Options
from medssl.encoder.export.program import make_program, quiet
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = ".pt2", 1e-5, ()


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001
    """Every encoder fits."""
    return None


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Options) -> None:
    """Writes the program."""
    with quiet():
        torch.export.save(make_program(encoder, card, options), path, extra_files={"card.json": json.dumps(card)})


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:  # noqa: ARG001
    """Loads as `usage` says."""
    with quiet():
        network = torch.export.load(path).module()
    return largest_difference(network, encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines."""
    return "\n".join(
        [
            "import torch",
            f'network = torch.export.load("{path}").module()  # on a GPU: .module().to("cuda")',
            f"features = network(images)  {image_line(card)}",
        ]
    )
