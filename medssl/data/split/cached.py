"""The sides of a store, train, val and test, and what leaks between them: found once and kept, as it takes minutes for a million images.

What was found lies in <cache>/sides under the hash of all that decides it: the store's table, the settings, the code that finds it.
"""

import hashlib
import inspect
import io
import json
import zipfile
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from medssl.config import Data
from medssl.data.cache import private_folder
from medssl.data.split import assignment, leaks, near_duplicates
from medssl.data.split.leaks import Leaks
from medssl.data.store.store import Store
from medssl.errors import UserError
from medssl.files import write_whole


@dataclass(frozen=True)
class Sides:
    """`roles`: "train", "val", "test", or "" for what `data.leaks` leaves out. `held`: train rows, or those of val, that the monitor
    looks at and pretraining does not. `leaks`: what stood on several sides before any was left out."""

    roles: Shaped[np.ndarray, " rows"]
    held: Bool[np.ndarray, " rows"]
    leaks: Leaks


def sides(store: Store, stratum: str, data: Data, cache: Path) -> Sides:
    """The sides of a store's rows, stratified by the label column `stratum` (or ""), from the cache where they were found before.

    Raises UserError where the split that comes with the data leaks and `data.leaks` does not say what to do.
    """
    file = cache / "sides" / f"{_name(store, stratum, data)}.npz"
    if (known := _read(file, len(store.table))) is not None:
        return known
    roles = assignment.assign(store.table, stratum, data.split_seed, data.test_fraction)
    found = leaks.find(store.table, store.images, roles)
    roles = leaks.settled(found, roles, data.leaks)
    held = assignment.holdout(store.table, roles, stratum, data.split_seed, data.holdout_fraction)
    _keep(file, made := Sides(roles, held, found))
    return made


def _name(store: Store, stratum: str, data: Data) -> str:
    settings = [stratum, data.split_seed, data.test_fraction, data.holdout_fraction, data.leaks]
    return hashlib.sha256(json.dumps([store.card["table_sha256"], *settings, _code()]).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Other code may find other sides."""
    return hashlib.sha256("".join(map(inspect.getsource, (assignment, leaks, near_duplicates))).encode()).hexdigest()


def _read(file: Path, rows: int) -> Sides | None:
    with suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile), file.open("rb") as opened, np.load(opened) as kept:
        found = Sides(kept["roles"], kept["held"], Leaks(**{field.name: kept[field.name][()] for field in fields(Leaks)}))
        return found if len(found.roles) == len(found.held) == rows else None
    return None


def _keep(file: Path, made: Sides) -> None:
    content = io.BytesIO()
    kept = {"roles": made.roles, "held": made.held} | {field.name: getattr(made.leaks, field.name) for field in fields(Leaks)}
    np.savez_compressed(content, **kept)  # pyright: ignore[reportArgumentType]
    with suppress(OSError, UserError):  # a cache that cannot be written costs time only
        private_folder(file.parent)
        write_whole(file, content.getvalue())
