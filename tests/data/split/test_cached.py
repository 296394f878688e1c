"""The split of a store is computed once, and again where anything that decides it has changed."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import Data
from medssl.data.split import Leaks, Split, assignment, cached, leaks
from medssl.data.store import Store
from medssl.data.store.images import CheckedImages
from medssl.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Forty images of twenty patients, two of them equal pixels of different patients and labels; what `find_split` needs of a store."""
    rows = range(40)
    own = {name: [f"{name}{row // 2}" for row in rows] for name in ("patient", "study")}
    pixels = ["same" if row in (0, 39) else f"pixels{row}" for row in rows]
    labels = [("sick", "well")[row // 2 % 2] for row in rows]
    table = pd.DataFrame({**own, "pixel_hash": pixels, "split": "", "label:finding": labels})
    np.save(tmp_path / "images.npy", np.zeros((40, 1, 16, 16), np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r").view(CheckedImages)
    return Store(tmp_path, images, table, {"table_sha256": "0" * 64})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each split that is made."""
    made: list[int] = []
    whole = assignment.assign_roles
    monkeypatch.setattr(assignment, "assign_roles", lambda *arguments: made.append(1) or whole(*arguments))
    return made


def same(one: Split, other: Split) -> bool:
    found = [(getattr(one.leaks, field.name), getattr(other.leaks, field.name)) for field in fields(Leaks)]
    return all(np.array_equal(a, b) for a, b in [(one.roles, other.roles), (one.holdout, other.holdout), *found])


def test_the_second_time_the_split_is_read_and_is_the_same(store: Store, calls: list[int], tmp_path: Path) -> None:
    first = cached.find_split(store, "finding", Data(), tmp_path)
    again = cached.find_split(store, "finding", Data(), tmp_path)
    assert len(calls) == 1
    assert same(first, again)
    assert {"train", "test"} <= set(first.roles) and first.holdout.any()
    assert len(first.leaks.contradictions) == 1 and again.leaks.sentences() == first.leaks.sentences()


@pytest.mark.parametrize("change", ["split_seed", "test_fraction", "holdout_fraction", "leaks", "stratum", "table", "version"])
def test_whatever_decides_the_split_changes_its_file(change: str, store: Store, calls: list[int], tmp_path: Path, monkeypatch) -> None:
    cached.find_split(store, "finding", Data(), tmp_path)
    other = {"split_seed": 1, "test_fraction": 0.3, "holdout_fraction": 0.3, "leaks": "drop"}
    if change == "table":
        store.card["table_sha256"] = "1" * 64
    if change == "version":
        monkeypatch.setattr(cached, "VERSION", "other")
    cached.find_split(store, "" if change == "stratum" else "finding", Data(**{k: v for k, v in other.items() if k == change}), tmp_path)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["cut short", "empty", "of another store"])
def test_a_damaged_file_is_no_obstacle(damage: str, store: Store, calls: list[int], tmp_path: Path) -> None:
    first = cached.find_split(store, "finding", Data(), tmp_path)
    (file,) = (tmp_path / "splits").iterdir()
    whole = file.read_bytes()
    if damage == "of another store":
        np.savez(file, **{**np.load(file), "roles": first.roles[:3]})
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut short" else b"")
    assert same(cached.find_split(store, "finding", Data(), tmp_path), first)
    assert len(calls) == 2
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_time_only(store: Store, calls: list[int], tmp_path: Path) -> None:
    (tmp_path / "splits").write_text("a file, where a folder should be")
    assert same(*(cached.find_split(store, "finding", Data(), tmp_path) for _ in range(2)))
    assert len(calls) == 2


def test_what_is_refused_is_not_kept(store: Store, tmp_path: Path) -> None:
    table = store.table.assign(split=["train"] * 20 + ["test"] * 20, patient="one")
    leaking = Store(store.path, store.images, table, store.card)
    with pytest.raises(UserError, match=r"data\.leaks=drop"):
        cached.find_split(leaking, "finding", Data(), tmp_path)
    assert not (tmp_path / "splits").exists()
    assert leaks.find_leaks(table, store.images, table["split"].to_numpy(str)).certain
