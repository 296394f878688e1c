"""The encoder as a file: `encoder.safetensors` with the weights, and `card.json` with all that is needed to use the weights correctly.
`MODEL_CARD.md` says the same for people.

Loading is strict: another architecture, a missing or surplus tensor, another digest or another probe output is an error, so weights are
never random by mistake. The probe is an image computed by a formula; the card holds the encoder's features of that image.
"""

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors

from medssl import plugins
from medssl.encoder import model_card, signature
from medssl.errors import UserError
from medssl.files import write_atomically
from medssl.nn import Encoder
from medssl.types import Size, edges

FORMAT = 1
# The entries of the card. Cards of version 2, and those that do not say their version, hold hashes of pixels without a key.
SCHEMA = "medssl-encoder-card-3"
WEIGHTS, CARD = "encoder.safetensors", "card.json"
_MAX_SIZE, _MAX_EDGE, _MAX_CHANNELS = 4096, 1024, 16  # of an image and a volume in a card: others would only fill the memory
_TOLERANCE = 1e-3


def probe_image(channels: int, size: Size) -> torch.Tensor:
    """The probe image [1, C, size, size], or probe volume [1, C, slices, rows, columns], in [0, 1]: crossed sine waves with another phase
    in each channel, equal on every machine."""
    axes = [torch.arange(edge, dtype=torch.float64) / edge for edge in edges(size)]
    *slices, rows, columns = torch.meshgrid(*axes, indexing="ij")
    across = columns + slices[0] if slices else columns
    waves = [torch.sin(math.tau * (3 * rows + c / 7)) + torch.cos(math.tau * (2 * across + rows)) for c in range(channels)]
    return 0.5 + torch.stack(waves)[None].float() / 4


@torch.no_grad()
def probe_output(encoder: Encoder, channels: int, size: Size) -> torch.Tensor:
    """The features [D] of the probe image in float32 and evaluation mode, of a copy of the encoder on the CPU: whoever loads the encoder
    compares them there, and those of a GPU differ by up to 2.5e-3 of their size, where its convolutions are TF32."""
    return copy.deepcopy(encoder).cpu().eval()(probe_image(channels, size))[0].float()


def build_encoder(backbone: dict[str, Any], channels: int, size: Size, mean: torch.Tensor, std: torch.Tensor, seed: int) -> Encoder:
    """An encoder with random weights drawn from `seed`; torch's global generator stays unchanged. `backbone`: the name and options of a
    plug-in. `mean`, `std` [C]: of images in [0, 1]."""
    module = plugins.find("backbones", str(backbone["name"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(module.build(module.Config(**backbone), channels, size), mean, std, len(edges(size))).channels_last()


def save(encoder: Encoder, folder: Path, *, backbone: dict[str, Any], channels: int, size: Size, card: dict[str, Any]) -> None:
    """Write weights and card into `folder`. The card is written last, so a folder with a card has a complete encoder.

    `card`: what the run adds to the card, such as data, method, provenance and hashes.
    """
    weights = dump_tensors({name: tensor.contiguous().cpu() for name, tensor in encoder.state_dict().items()})
    full_card = {
        "format": FORMAT,
        "schema": SCHEMA,
        "backbone": backbone,
        "channels": channels,
        "size": size,
        "num_features": encoder.num_features,
        "mean": encoder.mean.flatten().tolist(),
        "std": encoder.std.flatten().tolist(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "probe_output": probe_output(encoder, channels, size).tolist(),
        **card,
    }
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / model_card.NAME, model_card.render(full_card).encode())
    write_atomically(folder / CARD, as_json(full_card))


def as_json(card: Mapping[str, Any]) -> bytes:
    """The content of card.json."""
    return (json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def is_artefact(path: Path) -> bool:
    """Whether `path` names an encoder of medssl: a run folder with one, or its `encoder.safetensors`."""
    return (path / WEIGHTS).is_file() or path.name == WEIGHTS


def load(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder, in evaluation mode on the CPU, and its card. `path`: a run folder or its `encoder.safetensors`.

    Raises UserError if there is no encoder, if weights and card do not belong together, or if the card was changed after it was signed.
    """
    folder = path if path.is_dir() else path.parent
    weights_file = folder / WEIGHTS if path.is_dir() else path
    if not weights_file.is_file() or not (folder / CARD).is_file():
        raise UserError(f"No encoder at {path}: {WEIGHTS} and {CARD} belong in the same folder. Name a finished pretraining run.")
    try:
        weights = weights_file.read_bytes()
        card = json.loads((folder / CARD).read_text("utf-8"))
        if card["format"] != FORMAT or hashlib.sha256(weights).hexdigest() != card["weights_sha256"]:
            raise UserError(f"{weights_file} is not the file that {CARD} describes (format or SHA-256 differ). Copy both again.")
        _check_sizes(card, folder / CARD)
        signature.check(card)
        card["size"] = tuple(card["size"]) if isinstance(card["size"], list) else card["size"]
        mean, std = torch.tensor(card["mean"]), torch.tensor(card["std"])
        encoder = build_encoder(card["backbone"], card["channels"], card["size"], mean, std, seed=0)
        tensors = load_tensors(weights)
        check_finite(tensors, weights_file)
        encoder.load_state_dict(tensors, strict=True)
        expected = torch.tensor(card["probe_output"])
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{weights_file} is no medssl encoder: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    output = probe_output(encoder, card["channels"], card["size"])
    largest = float(expected.abs().max())
    difference = float((output - expected).abs().max()) if output.shape == expected.shape else math.inf
    if not (math.isfinite(largest) and difference <= _TOLERANCE * largest):  # NaN is no number that is small enough
        raise UserError(
            f"{weights_file}: the probe image gives other features than the card says. Weights and card do not belong together."
        )
    return encoder.eval(), card


def _check_sizes(card: Mapping[str, Any], file: Path) -> None:
    """Raises UserError unless `channels` is a number, and `size` a number or the three numbers of a volume, each within its limits."""
    for name, most in (("size", _MAX_SIZE), ("channels", _MAX_CHANNELS)):
        value = card[name]
        if name == "size" and isinstance(value, list) and len(value) == 3:
            if all(isinstance(edge, int) and 1 <= edge <= _MAX_EDGE for edge in value):
                continue
            raise UserError(f"{file} is damaged: size is no three numbers from 1 to {_MAX_EDGE}. Copy the encoder's folder again.")
        if not isinstance(value, int) or not 1 <= value <= most:
            raise UserError(f"{file} is damaged: {name} is no number from 1 to {most}. Copy the encoder's folder again.")


def check_finite(tensors: Mapping[str, torch.Tensor], file: Path | str) -> None:
    """Raises UserError where a tensor of the file holds NaN or infinity: some inputs never reach these weights, others become NaN."""
    wrong = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise UserError(f"{file} is damaged: {len(wrong)} tensors hold numbers that are not finite, as {wrong[0]!r}. Use another file.")
