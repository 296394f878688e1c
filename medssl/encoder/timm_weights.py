"""A timm network with weights from a file, as model hubs offer them: from ImageNet, or from another self-supervised method.

The architecture is the name of the file up to its first dot, as timm names its weights (resnet50.a1_in1k.safetensors), or `architecture`
in config.json beside the file. Loading is strict with three exceptions: the classifier is left out; timm adapts the first convolution to
the channels and a transformer's position embeddings to the image size; and the batch counters of batch normalisations may be missing.
Images are standardised with the mean and standard deviation in timm's configuration; grey images with their average over the colours.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor

from medssl.encoder.artefact import build_encoder, check_finite
from medssl.errors import UserError, suggest
from medssl.nn import Encoder

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")
_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")


def load_timm(path: Path, channels: int, size: int) -> Encoder:
    """The network of a weights file, or of a folder with config.json and the weights, for images of `channels` channels and `size` pixels.

    Raises UserError if there is no such file, if its name names no network, or if tensors are missing, left over or of another shape.
    """
    file, model = _find_file(path), _find_architecture(path)
    cfg: Any = timm.models.get_pretrained_cfg(model)
    mean, std = (_for_channels(channels, getattr(cfg, name, None) or usual) for name, usual in zip(("mean", "std"), _IMAGENET, strict=True))
    encoder = build_encoder({"name": "timm", "model": model, "stem": "own"}, channels, size, mean, std, seed=0)
    tensors = _drop_classifier(_read_tensors(file), cfg)
    expected = encoder.backbone.state_dict()
    first = cfg.first_conv if cfg and isinstance(cfg.first_conv, str) else ""
    if (key := f"{first}.weight") in tensors and key in expected and tensors[key].shape[1] != channels:
        tensors[key] = adapt_input_conv(channels, tensors[key])
    if (key := "pos_embed") in tensors and key in expected and tensors[key].ndim == expected[key].ndim == 3:
        network: Any = encoder.backbone
        with suppress(RuntimeError):  # position embeddings of no square: refused below
            tensors[key] = resample_abs_pos_embed(tensors[key], network.patch_embed.grid_size, num_prefix_tokens=network.num_prefix_tokens)
    tensors |= {name: expected[name] for name in expected.keys() - tensors.keys() if name.endswith(".num_batches_tracked")}
    mismatched = sorted(
        (expected.keys() ^ tensors.keys())
        | {name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape}
    )
    if mismatched:
        raise UserError(
            f"{path.name} does not fit timm's {model}: {len(mismatched)} tensors are missing, left over or of another shape, as "
            f"{mismatched[0]!r}. Is it the right architecture? A file is named after it, as in resnet50.mine.safetensors."
        )
    check_finite(tensors, path)
    encoder.backbone.load_state_dict(tensors, strict=True)
    return encoder.eval()


def _find_file(path: Path) -> Path:
    files = [path] if path.is_file() else [path / name for name in _HUB_NAMES if (path / name).is_file()]
    if not files:
        raise UserError(f"No encoder at {path}: neither a run folder, nor a file of weights, nor a folder with {' or '.join(_HUB_NAMES)}.")
    if files[0].suffix not in _SUFFIXES:
        raise UserError(f"{files[0].name} is no file of weights that is known: {', '.join(_SUFFIXES)}.")
    return files[0]


def _find_architecture(path: Path) -> str:
    config_file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        name = json.loads(config_file.read_text("utf-8"))["architecture"]
    except (OSError, ValueError, KeyError, TypeError):
        name = path.name.partition(".")[0]
    if name not in timm.list_models():
        raise UserError(
            f"{path.name}: timm has no model {name!r}. {suggest(str(name), timm.list_models())} A file is named after its architecture, "
            "as in resnet50.mine.safetensors, or has a config.json next to it with the entry architecture."
        )
    return str(name)


def _for_channels(channels: int, colours: tuple[float, ...]) -> Tensor:
    values = torch.tensor(colours)
    return values if len(values) == channels else values.mean().repeat(channels)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{file.name} cannot be read as weights: {type(error).__name__}. Only tensors are loaded, never code.") from None
    for key in ("state_dict", "model"):
        loaded = loaded[key] if isinstance(loaded, dict) and isinstance(loaded.get(key), dict) else loaded
    tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor)} if isinstance(loaded, dict) else {}
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def _drop_classifier(tensors: dict[str, Tensor], cfg: Any) -> dict[str, Tensor]:
    heads = (cfg.classifier if cfg and cfg.classifier else "head",)
    heads = heads if isinstance(heads[0], str) else heads[0]
    return {name: value for name, value in tensors.items() if not name.startswith(tuple(f"{head}." for head in heads))}
