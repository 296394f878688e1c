"""The encoder artefact of a finished pretraining: what its card says of data, method and use."""

from collections.abc import Mapping
from pathlib import Path

import torch

from medssl import __version__
from medssl.config import Config
from medssl.encoder import artefact
from medssl.nn.encoder import Encoder
from medssl.run.data import Prepared
from medssl.run.folder import now

_HASH_CHARACTERS = 16
INTENDED_USE = (
    "Features for research on images prepared in the same way. Not a medical device. The weights may hold traces of single training "
    "images: treat them as you treat the data they come from."
)


def export(folder: Path, config: Config, found: Prepared, encoder: Encoder, facts: Mapping[str, float]) -> None:
    """Write encoder.safetensors and card.json. The card holds no path: keyed hashes of the patients and pixels that were trained on."""
    table = found.store.table.iloc[found.pretraining]
    card = {
        "intensity": "float in [0, 1], brighter is more; standardised by mean and std inside the encoder",
        "preparation": found.store.card["preparation"] | {"settings": found.store.card["settings"]},
        "data": {key: found.store.card[key] for key in ("fingerprint", "content", "counts")},
        "stratum": found.stratum,
        "leaks": {"policy": config.data.leaks, **found.leaks.counts()},
        "pretraining": {
            "patients": sorted({key[:_HASH_CHARACTERS] for key in table["patient"]}),
            "pixels": sorted({key[:_HASH_CHARACTERS] for key in table["pixel_hash"]}),
        },
        "config": config.model_copy(update={"data": config.data.model_copy(update={"path": ""})}).model_dump(mode="json"),
        "facts": {key: value for key, value in facts.items() if value == value},
        "provenance": {"medssl": __version__, "torch": torch.__version__, "finished": now(), "run": folder.name},
        "licence": "as the training data allows; medssl claims none",
        "intended_use": INTENDED_USE,
    }
    artefact.save(
        encoder,
        folder,
        backbone=config.backbone.model_dump(mode="json"),
        channels=config.data.channels,
        size=config.data.size,
        card=card,
    )
