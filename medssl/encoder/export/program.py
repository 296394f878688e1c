"""The encoder as a program of torch.export: standardisation and backbone, for any number of images. `onnx` and `torch_export` write it.

The example has two images, because one image would fix the number of images to one. The nodes of a program keep where in the source they
come from, with the paths of this machine: all of that is removed.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.encoder.export.options import Options
from medssl.errors import UserError
from medssl.nn.encoder import Encoder, to_unit_range
from medssl.types import Size, edges

_BATCH = torch.export.Dim("batch", min=1)
_KEPT = ("val",)  # shape and type of what a node returns


class PreparedEncoder(nn.Module):
    """The encoder of images behind the end of the preparation: 8-bit square images of any size are resized and scaled to [0, 1].

    Shrinking averages as Pillow's BILINEAR does, which is what `medssl prepare` uses. Images that are not square must be padded before.
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        super().__init__()
        self.encoder, self.size = encoder, size

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, D] of uint8 images [N, C, edge, edge]."""
        sizes = (self.size, self.size)
        return self.encoder(F.interpolate(to_unit_range(images), size=sizes, mode="bilinear", antialias=True, align_corners=False))


def make_program(encoder: Encoder, card: Mapping[str, Any], options: Options) -> torch.export.ExportedProgram:
    """The program, with the number of images free from 1, and with the preparation also the edge of the images. Raises UserError for the
    preparation of whole volumes, which is more than a resize."""
    channels, size = card["channels"], card["size"]
    if not options.with_preparation:
        return program_of(encoder.eval(), channels, size)
    if not isinstance(size, int):
        raise UserError("--with-preparation is for images: the preparation of whole volumes cannot be a part of the program. Leave it out.")
    edge = torch.export.Dim("edge", min=8, max=16384)
    example = torch.zeros(2, channels, 2 * size, 2 * size, dtype=torch.uint8)
    return _trace(PreparedEncoder(encoder, size).eval(), example, {0: _BATCH, 2: edge, 3: edge})


def program_of(network: nn.Module, channels: int, size: Size) -> torch.export.ExportedProgram:
    """The program of a network for prepared images [N, channels, size, size], or volumes [N, channels, slices, rows, columns], float32 in
    [0, 1], N from 1 on."""
    return _trace(network, torch.zeros(2, channels, *edges(size)), {0: _BATCH})


def _trace(network: nn.Module, example: Tensor, shapes: dict[int, Any]) -> torch.export.ExportedProgram:
    """The program of a network, without what its nodes keep of the source code. Raises whatever torch.export raises for a network that it
    cannot follow."""
    with quiet(), torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes=(shapes,))
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta = {name: value for name, value in node.meta.items() if name in _KEPT}
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of torch's exporters, which concern their own insides."""
    with warnings.catch_warnings(action="ignore"):
        yield
