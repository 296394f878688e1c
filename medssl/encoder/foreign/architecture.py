"""Which network the weights are for, and how its images are standardised: as the name of a file, config.json or the file says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn, tensor

from medssl.errors import UserError, suggest

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Named:
    """The timm name of a network, and who says it: "config.json", "the file's name" or "the file"."""

    model: str
    by: str


def find_architecture(path: Path, file: Path, content: Mapping[str, Any]) -> Named | None:
    """The network that config.json beside the file names (`architecture`), or the file's name up to its first dot, as timm names its
    weights (resnet50.a1_in1k.safetensors), or the entry `arch` of a checkpoint; None where nothing of it is a network of timm.

    Raises UserError where config.json names a network that timm does not have.
    """
    known = timm.list_models()
    if (name := _hub_config(file).get("architecture")) is not None:
        if name not in known:
            raise UserError(f"config.json beside {file.name}: timm has no model {name!r}. {suggest(str(name), known)}")
        return Named(str(name), "config.json")
    beginning = path.name.partition(".")[0]
    for name, by in ((beginning, "the file's name"), (beginning.lower(), "the file's name"), (content.get("arch"), "the file")):
        if name in known:
            return Named(str(name), by)
    return None


def refuse_unnamed(path: Path) -> UserError:
    """The error where nothing names the network, with the timm name that is most similar to the file's."""
    name = path.name.partition(".")[0]
    return UserError(
        f"{path.name}: timm has no model {name!r}. {suggest(name, timm.list_models())} A file is named after its architecture, as in "
        "resnet50.mine.safetensors, or has a config.json next to it with the entry architecture."
    )


def heads_of(model: str) -> tuple[str, ...]:
    """The beginnings of the names of classifiers and heads, of this network in timm and of the usual ones."""
    classifier = getattr(timm.models.get_pretrained_cfg(model), "classifier", None) or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple(f"{name}." for name in dict.fromkeys((*names, "fc", "head", "classifier")))


def first_convolution(model: str, network: nn.Module) -> str:
    """The name of the weights of a network's first convolution: in a network of volumes the first one, else the one that timm names; ""
    where timm names none or several."""
    of_volumes = (name for name, part in network.named_modules() if isinstance(part, nn.Conv3d))
    first = next(of_volumes, None) or getattr(timm.models.get_pretrained_cfg(model), "first_conv", None)
    return f"{first}.weight" if isinstance(first, str) else ""


def standardisation(path: Path, file: Path, named: Named | None, layout: str, channels: int) -> tuple[Tensor, Tensor, str]:
    """Mean and standard deviation [channels] of images in [0, 1] that the weights expect, and who says so.

    timm's record of the network counts only where the weights may be timm's: another method's layout has ImageNet's values.
    """
    record, by = _hub_config(file).get("pretrained_cfg"), "config.json"
    if not isinstance(record, Mapping) and named is not None and named.by != "the file":
        record, by = _record_of_timm(path.name, named.model, layout)
    values = [record.get(key) for key in ("mean", "std")] if isinstance(record, Mapping) else [None, None]
    if not all(values):
        values, by = list(_IMAGENET), "ImageNet's, as the weights do not say"
    mean, std = (_for_channels(channels, each) for each in values if each)
    return mean, std, by


def _record_of_timm(name: str, model: str, layout: str) -> tuple[dict[str, Any], str]:
    """timm's record of the weights by their full name (resnet50.a1_in1k), or else of the network's usual weights."""
    tag = name.split(".")[1] if name.count(".") > 1 else ""
    exact = f"{model}.{tag}" in timm.list_pretrained(f"{model}.*")
    if layout and not exact:
        return {}, ""
    cfg: Any = timm.models.get_pretrained_cfg(f"{model}.{tag}" if exact else model)
    return {key: getattr(cfg, key, None) for key in ("mean", "std")}, f"timm's record of {model}{f'.{tag}' if exact else ''}"


def _for_channels(channels: int, colours: Any) -> Tensor:
    values = tensor([float(value) for value in colours])
    return values if len(values) == channels else values.mean().repeat(channels)


def _hub_config(file: Path) -> dict[str, Any]:
    """config.json beside the file, as model hubs have it; empty where there is none that can be read."""
    try:
        found = json.loads((file.parent / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
