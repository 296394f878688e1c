"""The weights that an encoder started from: how they choose the backbone, what the card says of them, and where a run keeps them.

A pretraining from weights keeps the encoder that it started from in the folder `start` of its run, in the form of every encoder of medssl.
So a later fine-tuning compares with the start, even if the file that was named is gone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medssl import __version__
from medssl.config import Config
from medssl.data.split import count_seen, join_seen, seen_counts
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.runs.run_dir import START

if TYPE_CHECKING:
    from medssl.encoder.foreign import ForeignEncoder

_NOT_A_NETWORK = ("init", "init_sha256")  # settings of a backbone that say where its weights come from


def with_weights(config: Config, path: Path, given: Mapping[str, Any]) -> tuple[Config, "ForeignEncoder", str]:
    """The configuration with the backbone that the weights of `path` belong to, the encoder with these weights, and a sentence where the
    backbone is another one than configured, "" where not. `given`: the settings of the command line.

    Raises UserError where the weights do not fit, or contradict what the user set.
    """
    from medssl.encoder.foreign import load_foreign  # timm takes seconds

    before, of_user = config.backbone.model_dump(mode="json"), given.get("backbone", {})
    of_user = of_user if isinstance(of_user, Mapping) else {}
    loaded = load_foreign(path, config.data.channels, config.data.size, configured=before, given=of_user)
    config = config.model_copy(update={"backbone": config.backbone.model_copy(update=loaded.backbone)})
    after = config.backbone.model_dump(mode="json")
    changed = [f"{name} {_plain(after[name])} (was {_plain(before[name])})" for name in loaded.backbone if after[name] != before[name]]
    return config, loaded, f"backbone  follows the weights: {', '.join(changed)}" if changed else ""


def without_path(config: Config) -> dict[str, Any]:
    """The configuration as a card holds it: without the places of images and weights."""
    values = config.model_dump(mode="json")
    values["data"]["path"] = ""
    return values | {"backbone": network_of(config)}


def network_of(config: Config) -> dict[str, Any]:
    """The backbone's name and options as a card holds them: those that say which network it is."""
    return {name: value for name, value in config.backbone.model_dump(mode="json").items() if name not in _NOT_A_NETWORK}


def start_card(config: Config, loaded: "ForeignEncoder") -> dict[str, Any]:
    """The card of an encoder before any pretraining with `config`: what is known of its weights. Of an encoder of medssl it says what that
    one has seen; of others medssl knows no images."""
    own = loaded.card or {}
    return {
        "method": own.get("method", {"name": "", "title": f"weights of {loaded.facts['file']}"}),
        "intensity": "float in [0, 1], brighter is more; standardised by mean and std inside the encoder",
        "data": own.get("data", {}),
        "stratum": own.get("stratum", ""),
        "pretraining": own.get("pretraining", {"patients": [], "pixels": []}),
        "config": without_path(config),
        "facts": own.get("facts", {}),
        "provenance": {"medssl": __version__, "torch": torch.__version__, "file": loaded.facts["file"]},
        START: loaded.facts,
        "licence": "that of the weights",
        "intended_use": "A start for a pretraining, and what its encoder is compared with. Not a medical device.",
    }


def keep_start(run: Path, config: Config, loaded: "ForeignEncoder") -> None:
    """Write the encoder that a run starts from into its folder `start`."""
    (run / START).mkdir()
    data = config.data
    card = start_card(config, loaded)
    artefact.save(loaded.encoder, run / START, backbone=network_of(config), channels=data.channels, size=data.size, card=card)


def card_of_start(run: Path) -> dict[str, Any] | None:
    """The card of the encoder that a run started from; None where it started from random numbers. Raises UserError for a damaged one."""
    path = run / START / artefact.CARD
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}). Start the run again.") from None


def continued(card: Mapping[str, Any], start: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a card says of an encoder that started from the weights of the card `start`: `card` with these facts, and with all that the
    weights had seen before, so that nobody is tested whom one of the two pretrainings has seen."""
    if start is None:
        return dict(card)
    own, earlier = card["pretraining"], start["pretraining"]
    method, both = card["method"], {name: join_seen(own[name], earlier[name]) for name in own}
    before = {name: count - count_seen(own[name]) for name, count in seen_counts({"pretraining": both}).items()}
    return {
        **card,
        "method": {**method, "uses_labels": method["uses_labels"] or start["method"].get("uses_labels", False)},
        "pretraining": both,
        START: {**start[START], "seen_before": before},
    }


def method_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """The method of the encoder of that card, for reports: its settings and its title. Of foreign weights the title alone says what they
    are. Earlier cards have no title."""
    method = card.get("method", {})
    return dict(method) if is_foreign(card) else {**card["config"]["method"], **method}


def is_foreign(card: Mapping[str, Any]) -> bool:
    """Whether the card is of weights that medssl has not trained."""
    return card.get("method", {}).get("name") == ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
