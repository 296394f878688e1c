"""An ONNX file: standardisation and backbone, for any number of images, and on request the end of the preparation.

torch.onnx writes into each node where in the source it comes from, with the paths of this machine. All of these notes are removed. The card
is in the file's metadata, under "card".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.data.preparation import fit
from medssl.encoder.export.comparison import image_line, largest_difference, probe_images, relative_difference, shape_text
from medssl.encoder.export.options import Options
from medssl.encoder.export.program import make_program, quiet
from medssl.errors import UserError
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = ".onnx", 1e-4, ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
_INPUT, _OUTPUT = "images", "features"


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001
    """Every encoder is tried: only torch.onnx knows the operations that it can translate."""
    return None


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Options) -> None:
    """Writes the network. Raises UserError where torch.onnx cannot translate it."""
    import onnx

    names = {"input_names": [_INPUT], "output_names": [_OUTPUT], "opset_version": OPSET, "external_data": False, "verbose": False}
    try:
        with quiet():
            program = torch.onnx.export(make_program(encoder, card, options), dynamo=True, **names)
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"torch.onnx cannot translate this network: {str(error).splitlines()[0]}") from None
    assert program is not None
    model: Any = program.model_proto
    _remove_notes(model)
    _name_the_batch(model)
    shape = f"{card['channels']}, any edge, any edge" if options.with_preparation else shape_text(card)
    kind = "uint8" if options.with_preparation else "float32 in [0, 1]"
    model.doc_string = f"images: {kind} [batch, {shape}]; features: float32 [batch, {card['num_features']}]"
    model.metadata_props.add(key="card", value=json.dumps(card))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:
    """Runs the file in onnxruntime on the CPU, as `usage` says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {_INPUT: images.numpy()})[0])

    if not options.with_preparation:
        return largest_difference(run, encoder, card)
    found, expected = [], []
    for edge in (card["size"], 2 * card["size"] + 3, card["size"] // 2 + 1):
        images = (probe_images(card["channels"], edge) * 255).round().to(torch.uint8)
        prepared = np.stack([fit(image, card["size"]) for image in images.numpy().astype(np.float32) / 255])
        found.append(run(images))
        expected.append(encoder(torch.from_numpy(prepared)).detach())
    return relative_difference(found, expected)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines."""
    prepared = f"# images: uint8 [N, {card['channels']}, edge, edge], any edge"
    images = f"{prepared if options.with_preparation else image_line(card)}, a NumPy array"
    return "\n".join(
        [
            "import onnxruntime",
            f'network = onnxruntime.InferenceSession("{path}", providers=["CPUExecutionProvider"])',
            f'(features,) = network.run(None, {{"images": images}})  {images}',
        ]
    )


def _remove_notes(model: Any) -> None:
    """Removes what the exporter notes of nodes and values."""
    for graph in [model.graph, *model.functions]:
        _clear(graph)
    del model.metadata_props[:]
    model.doc_string = ""


def _clear(graph: Any) -> None:
    """Of a graph or a function, and of the graphs in its nodes."""
    values = [getattr(graph, name, ()) for name in ("input", "output", "value_info", "initializer", "node")]
    for entry in [graph, *(value for group in values for value in group if not isinstance(value, str))]:
        del entry.metadata_props[:]
        entry.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.HasField("g") or attribute.graphs else []:
                _clear(inner)


def _name_the_batch(model: Any) -> None:
    """Calls the free axes of input and output by their meaning: torch gives them numbers."""
    names: dict[str, str] = {}
    for value, labels in ((model.graph.input[0], ("batch", "", "edge", "edge")), (model.graph.output[0], ("batch", ""))):
        for axis, label in zip(value.type.tensor_type.shape.dim, labels, strict=False):  # a volume has one more axis, which is not free
            if axis.dim_param:
                names[axis.dim_param] = label
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in names:
                axis.dim_param = names[axis.dim_param]
