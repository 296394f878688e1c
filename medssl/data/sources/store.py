"""A store that `medssl prepare --out` has written, on this or another machine. Its images need no further preparation."""

from __future__ import annotations

from pathlib import Path

from medssl.config import PluginConfig
from medssl.data.patients import PatientOrigin
from medssl.data.store import Store
from medssl.types import Source


class Config(PluginConfig):
    """A store has no options."""

    name: str = "store"


def recognises(data: str) -> bool:
    """A folder that holds the files of a store."""
    return all((Path(data).expanduser() / name).is_file() for name in ("images.npy", "table.parquet", "card.json"))


def build(config: Config, data: str) -> Source:  # noqa: ARG001
    """The store as a source without records. `prepare` opens the store and compares its settings with the configuration.

    Raises UserError for a store that is damaged or of another version.
    """
    store = Store.open(Path(data).expanduser().resolve())
    patients = PatientOrigin.by(store.card).sentences("volumes" if store.images.ndim == 5 else "images")
    notes = (f"a store prepared before, of {store.card['source']} data", *patients)
    return Source("store", store.path, (), notes)
