"""The split of a store into train, val and test, with its leaks. It is computed once and cached: a million images take minutes.

A split is stored in <cache>/splits, under a hash of the store's table, the settings and the version of the rules.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from medssl.config import Data
from medssl.data.cache import private_folder
from medssl.data.split import assignment, leaks
from medssl.data.split.leaks import Leaks
from medssl.data.store import Store
from medssl.errors import UserError
from medssl.files import write_atomically

VERSION = "1"  # of the rules in assignment, leaks and near_duplicates: to be raised when one of them selects other rows


@dataclass(frozen=True)
class Split:
    """`roles`: for each row "train", "val", "test", or "" where `data.leaks` leaves the row out. `holdout`: the rows of train or val that
    the monitor uses and pretraining does not. `leaks`: the leaks that were found before any row was left out."""

    roles: Shaped[np.ndarray, " rows"]
    holdout: Bool[np.ndarray, " rows"]
    leaks: Leaks


def find_split(store: Store, stratum: str, data: Data, cache: Path) -> Split:
    """The split of a store's rows, stratified by the label column `stratum` ("": by all), from the cache or computed.

    Raises UserError where the split that comes with the data has leaks and `data.leaks` is "refuse".
    """
    return _find(store, store.table, stratum, data, cache, None)


def find_unseen_split(store: Store, columns: Sequence[str], data: Data, cache: Path, seen: Bool[np.ndarray, " rows"]) -> Split:
    """The split with a test that has none of the rows `seen`, stratified by the label columns `columns` alone. Errors as `find_split`."""
    others = [name for name in store.table if str(name).startswith("label:") and str(name).removeprefix("label:") not in columns]
    return _find(store, store.table.drop(columns=others), columns[0] if len(columns) == 1 else "", data, cache, seen)


def _find(store: Store, table: pd.DataFrame, stratum: str, data: Data, cache: Path, seen: Bool[np.ndarray, " rows"] | None) -> Split:
    """`table`: the store's, with the label columns that may be strata."""
    of_encoder = [] if seen is None else [list(map(str, table.columns)), hashlib.sha256(np.packbits(seen).tobytes()).hexdigest()]
    file = cache / "splits" / f"{_file_name(store, stratum, data, of_encoder)}.npz"
    if (cached := _read(file, len(table))) is not None:
        return cached
    roles = assignment.assign_roles(table, stratum, data.split_seed, data.test_fraction, seen)
    found = leaks.find_leaks(store.table, store.images, roles)
    roles = leaks.apply_leak_policy(found, roles, data.leaks)
    split = Split(roles, assignment.choose_holdout(table, roles, stratum, data.split_seed, data.holdout_fraction), found)
    _write(file, split)
    return split


def _file_name(store: Store, stratum: str, data: Data, of_encoder: Sequence[object]) -> str:
    settings = [stratum, data.split_seed, data.test_fraction, data.holdout_fraction, data.leaks, *of_encoder]
    return hashlib.sha256(json.dumps([store.card["table_sha256"], *settings, VERSION]).encode()).hexdigest()[:32]


def _read(file: Path, rows: int) -> Split | None:
    with suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile), file.open("rb") as stream, np.load(stream) as arrays:
        split = Split(arrays["roles"], arrays["holdout"], Leaks(**{field.name: arrays[field.name][()] for field in fields(Leaks)}))
        return split if len(split.roles) == len(split.holdout) == rows else None
    return None


def _write(file: Path, split: Split) -> None:
    arrays = {"roles": split.roles, "holdout": split.holdout} | {field.name: getattr(split.leaks, field.name) for field in fields(Leaks)}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # pyright: ignore[reportArgumentType]
    with suppress(OSError, UserError):  # where the cache cannot be written, the next run computes the split again
        private_folder(file.parent)
        write_atomically(file, content.getvalue())
