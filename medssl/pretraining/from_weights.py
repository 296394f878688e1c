"""A pretraining that starts from weights in place of random numbers: `--init`, or the setting backbone.init."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medssl.config import Config, merge, resolve
from medssl.encoder.artefact import build_encoder
from medssl.errors import UserError
from medssl.nn import Encoder
from medssl.pretraining.fit_to_images import is_given
from medssl.runs.resolve_config import absolute_path
from medssl.runs.start import with_weights
from medssl.types import Reporter

if TYPE_CHECKING:
    from medssl.encoder.foreign import ForeignEncoder

_ENCODER_RATE = 0.1  # a share of train.lr: the encoder has learned already, the heads have not


def init_setting(init: Path | None) -> list[str]:
    """The flag --init as a setting."""
    return [] if init is None else [f"backbone.init={json.dumps(absolute_path(str(init)))}"]


def follow_weights(reporter: Reporter, config: Config, given: Mapping[str, Any]) -> Config:
    """The configuration of a pretraining from weights: the backbone follows them, their digest is kept, and the encoder's learning rate is
    a tenth of that of the heads. All of that is said. `given`: the settings of the command line. Without weights the configuration stays
    as it is.

    Weights that a preset names have the preset's learning rates. Raises UserError for weights that cannot be used.
    """
    if not (named := config.backbone.init):
        return config
    from medssl.encoder.foreign import digest  # timm takes seconds

    path = Path(absolute_path(named))
    config, loaded, sentence = with_weights(config, path, given)
    for line in filter(None, (*loaded.lines(), sentence)):
        reporter.say(line)
    found = digest(path)
    if config.backbone.init_sha256 not in ("", found):
        raise UserError(_other_weights(named, config))
    changes: dict[str, Any] = {"backbone": {"init": str(path), "init_sha256": found}}
    if is_given(given, "backbone", "init") and not is_given(given, "train", "encoder_rate"):
        changes["train"] = {"encoder_rate": _ENCODER_RATE}
        reporter.say(
            f"rate      the encoder learns at {_ENCODER_RATE:g} of train.lr, as the weights have learned already, and the heads at "
            "train.lr; another: --set train.encoder_rate=..."
        )
    return resolve(merge(config.model_dump(), changes))


def load_start(config: Config) -> "ForeignEncoder | None":
    """The encoder that a pretraining with this configuration starts from, None where it starts from random numbers."""
    backbone = config.backbone
    if not backbone.init:
        return None
    from medssl.encoder.foreign import load_foreign

    network = backbone.model_dump(mode="json")
    return load_foreign(Path(backbone.init), config.data.channels, config.data.size, configured=network, given=network)


def initial_encoder(config: Config, mean: torch.Tensor, std: torch.Tensor, first_step: int) -> Encoder:
    """The encoder at the first step: with the weights that are named and their standardisation, or random with `mean` and `std` [C].

    From a later step on all weights are those of a checkpoint, so the file is not read: it may be gone.
    """
    start = load_start(config) if first_step == 0 else None
    if start is not None:
        return start.encoder.train()
    return build_encoder(config.backbone.model_dump(), config.data.channels, config.data.size, mean, std, config.seed)


def check_same_weights(config: Config, given: Mapping[str, Any]) -> None:
    """Raises UserError where a run that goes on names other weights than it started from, or where the file has changed since."""
    backbone = config.backbone
    path = Path(backbone.init) if backbone.init else None
    if path is None or not (path.exists() or is_given(given, "backbone", "init")):
        return
    from medssl.encoder.foreign import digest

    if digest(path) != backbone.init_sha256:
        raise UserError(_other_weights(backbone.init, config))


def _other_weights(name: str, config: Config) -> str:
    return (
        f"{name} has other weights than those that the run started from: the SHA-256 is not {config.backbone.init_sha256[:16]}... "
        "(backbone.init_sha256). Name the same weights, or start a new run."
    )
