"""A store that `medssl prepare --out` has written, here or on another machine: nothing is left to be read or prepared."""

from __future__ import annotations

from pathlib import Path

from medssl.config import PluginConfig
from medssl.data.store import Store
from medssl.types import Source


class Config(PluginConfig):
    """Options of a store: it has none."""

    name: str = "store"


def recognises(data: str) -> bool:
    """A folder with a store's files."""
    return all((Path(data).expanduser() / name).is_file() for name in ("images.npy", "table.parquet", "card.json"))


def build(config: Config, data: str) -> Source:  # noqa: ARG001
    """The store as it is: `prepare` opens it, and checks that the configuration asks for what it holds.

    Raises UserError for a store that is damaged or of another version.
    """
    store = Store.open(Path(data).expanduser().resolve())
    return Source("store", store.path, (), (f"a store prepared before, of {store.card['source']} data",))
