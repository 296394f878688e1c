"""From a file of weights to an encoder, and to what the encoder's card and the terminal say of it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl import plugins
from medssl.backbones.timm import resolve_stem
from medssl.encoder import artefact
from medssl.encoder.foreign.architecture import find_architecture, refuse_unnamed, standardisation
from medssl.encoder.foreign.files import digest_of, find_file, read
from medssl.encoder.foreign.fitting import Fit, fit
from medssl.encoder.foreign.layouts import SWIN, Backbone, find_backbone
from medssl.errors import UserError
from medssl.nn import Encoder
from medssl.types import Size, describe_size, edges

_OURS = "an encoder of medssl"
_NETWORK = {  # what says which network of a family it is
    "timm": ("model", "stem", "arguments"),
    "monai": ("model", "stem", "width", "patch"),
}
_DEPTH = re.compile(r"resnet_?(\d+)")
_OF_VOLUMES = (0.3, 0.25)  # mean and standard deviation of a usual volume in [0, 1]: MedicalNet makes each volume's 0 and 1
_PATCH = 16  # backbone.patch where it has no meaning
_NAME_THE_NETWORK = "Is it the right network? Name it with --set backbone.model=NAME."


@dataclass(frozen=True)
class ForeignEncoder:
    """`encoder`: in evaluation mode. `backbone`: the name and options of its plug-in. `facts`: what the card says of the weights, without a
    path: file, sha256, layout, matched, adapted, left_out, missing, standardisation. `card`: of an encoder that medssl has trained, its
    own card."""

    encoder: Encoder
    backbone: dict[str, Any]
    facts: dict[str, Any]
    card: dict[str, Any] | None = None

    def lines(self) -> Iterator[str]:
        """What was found in the file, for the terminal."""
        facts = self.facts
        yield f"weights   {facts['file']}: {facts['layout']}"
        yield f"          matched   {facts['matched']} tensors of {self.backbone['model']}, all that it has"
        for sentence in facts["adapted"]:
            yield f"          adapted   {sentence}"
        if facts["left_out"]:
            yield f"          left out  {', '.join(f'{name} ({count})' for name, count in facts['left_out'].items())}"
        if facts["missing"]:
            yield f"          missing   {facts['missing']}"
        yield f"          images are standardised with mean and standard deviation of: {facts['standardisation']}"


def digest(path: Path) -> str:
    """The SHA-256 of the file with the weights that `path` names. Raises UserError where there is none."""
    return digest_of(path / artefact.WEIGHTS if (path / artefact.WEIGHTS).is_file() else find_file(path))


def load_foreign(
    path: Path, channels: int, size: Size, *, configured: Mapping[str, Any] | None = None, given: Mapping[str, Any] | None = None
) -> ForeignEncoder:
    """The encoder for images of `channels` channels and `size` pixels whose weights `path` names: a file, a folder as model hubs offer it,
    or an encoder of medssl.

    The network is the one that the weights name, or else the `configured` backbone; the stem of a ResNet follows from the shape of its
    first convolution. `given`: the options of the backbone that the user set, which must not contradict the weights. Raises UserError for a
    file of an unknown kind or layout, and where tensors are missing, left over, of another shape or not finite.
    """
    family = str((configured or {}).get("name", "timm" if isinstance(size, int) else "monai"))
    given = {name: value for name, value in (given or {}).items() if name in _NETWORK.get(family, ())}
    if artefact.is_artefact(path):
        return _load_ours(path, channels, size, family, given)
    file = find_file(path)
    content = read(file)
    found = find_backbone(content, volumes=not isinstance(size, int))
    if not isinstance(size, int):
        return _load_volumes(path, file, found, channels, size, configured or {}, given)
    named = find_architecture(path, file, content)
    if named and given.get("model", named.model) != named.model:
        raise UserError(
            f"{path.name}: {named.by} says that the weights are of {named.model}, and backbone.model is {given['model']}. Leave out "
            "backbone.model, or name other weights."
        )
    if named is None and configured is None:
        raise refuse_unnamed(path)
    start = dict(configured or {}) | ({"model": named.model} if named else {}) | dict(given)
    of_another = named is not None and (configured is None or configured.get("model") != named.model)
    backbone, network, fitted = _find_fit(found, start, channels, size, given, of_another)
    if fitted.misfits:
        raise UserError(_explain_misfit(path, backbone, fitted, named is not None))
    mean, std, by = standardisation(path, file, named, found.layout, channels)
    facts = _facts(path.name, digest_of(file), found.layout or "names of timm or torchvision", fitted, found.left_out, by)
    return ForeignEncoder(_encoder(path.name, network, fitted, mean, std, size), backbone, facts)


def _load_volumes(
    path: Path, file: Path, found: Backbone, channels: int, size: Size, configured: Mapping[str, Any], given: Mapping[str, Any]
) -> ForeignEncoder:
    """The encoder of volumes with the weights of MedicalNet, or of any network of MONAI. Model and width are those of the weights, as far
    as these say them, the depth as the file's name says it (resnet_18_23dataset.pth), or else the configured ones."""
    first = next((tensor for tensor in found.tensors.values() if tensor.ndim == 5), None)
    model = given.get("model") or _model_of_volumes(path.name, found.tensors) or configured.get("model", "resnet18")
    small = first is not None and first.shape[-1] == 3 and model.startswith(("resnet", "densenet"))
    backbone = {
        "name": "monai",
        "model": model,
        "stem": given.get("stem", "small" if small else "own"),
        "width": given.get("width", 64 if first is None else len(first)),
        "patch": given.get("patch", first.shape[-1] if first is not None and model == "vit" else _PATCH),
    }
    network, fitted = _fit(found.tensors, backbone, channels, size)
    if fitted.misfits:
        raise UserError(f"{path.name} does not fit MONAI's {backbone['model']}: {fitted.explain()}. {_NAME_THE_NETWORK}")
    if found.layout == SWIN:
        values, by = (0.0, 1.0), "none, as the weights were trained on volumes in [0, 1]"
    else:
        values = _OF_VOLUMES
        by = f"a usual volume ({values[0]} and {values[1]}), as the weights expect mean 0 and standard deviation 1"
    mean, std = (torch.full((channels,), value) for value in values)
    facts = _facts(path.name, digest_of(file), found.layout or "names of MONAI or MedicalNet", fitted, found.left_out, by)
    return ForeignEncoder(_encoder(path.name, network, fitted, mean, std, size), backbone, facts)


def _model_of_volumes(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The model that the tensors or the file's name tell; "" where they tell none."""
    if "patch_embedding.position_embeddings" in tensors:
        return "vit"
    if any(tensor.startswith("layers1.0.blocks.") for tensor in tensors):
        return "swin"
    depth = _DEPTH.match(name)
    return f"resnet{depth[1]}" if depth else ""


def _load_ours(path: Path, channels: int, size: Size, family: str, given: Mapping[str, Any]) -> ForeignEncoder:
    encoder, card = artefact.load(path)
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    theirs = dict(card["backbone"])
    if theirs["name"] != family or isinstance(card["size"], int) != isinstance(size, int):
        raise UserError(
            f"{folder.name} is an encoder of images or volumes of {describe_size(card['size'])} with backbone {theirs['name']}, and the "
            f"settings have {describe_size(size)} and backbone {family}. Use the data.volumes and the backbone of that encoder."
        )
    if theirs["name"] == "monai":
        from medssl.backbones.monai import resolve_stem as resolve_stem_of_volumes  # MONAI takes seconds

        theirs["stem"] = resolve_stem_of_volumes(theirs["model"], theirs["stem"], card["size"])
    else:
        kernel = getattr(getattr(encoder.backbone, "conv1", None), "kernel_size", None)
        theirs["stem"] = resolve_stem(theirs["stem"], card["size"]) if kernel == (3, 3) else "own"
    theirs = plugins.find("backbones", family).Config(**theirs).model_dump(mode="json")  # with the settings that were added since
    backbone = {name: theirs[name] for name in ("name", *_NETWORK[family])}
    for name in given:
        if given[name] not in (backbone[name], "auto"):
            raise UserError(
                f"{folder.name} is an encoder with backbone.{name} {backbone[name]}, and the setting is {given[name]}. Leave out "
                f"backbone.{name}, or name other weights."
            )
    network, fitted = _fit(encoder.backbone.state_dict(), backbone, channels, size)
    if fitted.misfits:
        raise UserError(f"{folder.name} does not fit images of {channels} channels and {describe_size(size)}: {fitted.explain()}.")
    mean, std = (t.flatten() if t.numel() == channels else t.mean().repeat(channels) for t in (encoder.mean, encoder.std))
    facts = _facts(folder.name, card["weights_sha256"], _OURS, fitted, {}, "the images that the encoder was trained on")
    return ForeignEncoder(_encoder(folder.name, network, fitted, mean, std, size), backbone, facts, card)


def _find_fit(
    found: Backbone, start: dict[str, Any], channels: int, size: Size, given: Mapping[str, Any], of_another: bool
) -> tuple[dict[str, Any], nn.Module, Fit]:
    """The backbone that fits, or that lacks least: with the configured arguments and without any, unless the user gave some."""
    configured = start.get("arguments", {})
    options = [configured] if "arguments" in given else [{}] if of_another else [configured, {}] if configured else [{}]
    tried: list[tuple[dict[str, Any], nn.Module, Fit]] = []
    for arguments in options:
        backbone = {"name": "timm", "model": start["model"], "stem": given.get("stem", "own"), "arguments": arguments}
        network, fitted = _fit(found.tensors, backbone, channels, size)
        if "stem" not in given and "conv1.weight" in fitted.shapes and fitted.tensors["conv1.weight"].shape[-2:] == (3, 3):
            backbone |= {"stem": "small"}
            network, fitted = _fit(found.tensors, backbone, channels, size)
        tried.append((backbone, network, fitted))
        if not fitted.misfits:
            break
    return min(tried, key=lambda attempt: attempt[2].misfits)


def _fit(tensors: dict[str, Tensor], backbone: Mapping[str, Any], channels: int, size: Size) -> tuple[nn.Module, Fit]:
    module = plugins.find("backbones", str(backbone["name"]))
    with torch.random.fork_rng(devices=[]):
        network = module.build(module.Config(**backbone), channels, size)
    like = backbone["model"] if backbone["name"] == "timm" else "resnet18"  # whose head and first convolution MONAI's ResNets name alike
    return network, fit(tensors, network, like, channels)


def _encoder(name: str, network: nn.Module, fitted: Fit, mean: Tensor, std: Tensor, size: Size) -> Encoder:
    artefact.check_finite(fitted.tensors, name)
    network.load_state_dict(fitted.tensors, strict=True)
    return Encoder(network, mean, std, len(edges(size))).channels_last().eval()


def _facts(name: str, sha256: str, layout: str, fitted: Fit, left_out: Mapping[str, int], by: str) -> dict[str, Any]:
    return {
        "file": name,
        "sha256": sha256,
        "layout": layout,
        "matched": fitted.matched,
        "adapted": fitted.adapted,
        "left_out": {**left_out, **fitted.heads},
        "missing": f"{fitted.counters} counters of batch normalisations, which start at 0" if fitted.counters else "",
        "standardisation": by,
    }


def _explain_misfit(path: Path, backbone: Mapping[str, Any], fitted: Fit, named: bool) -> str:
    arguments = f" with {json.dumps(backbone['arguments'])}" if backbone["arguments"] else ""
    remedy = (
        "Is it the right architecture? A file is named after it, as in resnet50.mine.safetensors."
        if named
        else f"{path.name} does not say its network: name the network with --set backbone.model=NAME, as in timm."
    )
    return f"{path.name} does not fit timm's {backbone['model']}{arguments}: {fitted.explain()}. {remedy}"
