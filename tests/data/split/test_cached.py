"""The sides of a store are found once; what decides them finds them anew."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import Data
from medssl.data.split import assignment, cached, leaks
from medssl.data.split.cached import Sides
from medssl.data.split.leaks import Leaks
from medssl.data.store.store import Store
from medssl.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Forty images of twenty patients, two of them equal pixels of different patients and labels; what `sides` asks of a store."""
    rows = range(40)
    own = {name: [f"{name}{row // 2}" for row in rows] for name in ("patient", "study")}
    pixels = ["same" if row in (0, 39) else f"pixels{row}" for row in rows]
    labels = [("sick", "well")[row // 2 % 2] for row in rows]
    table = pd.DataFrame({**own, "pixel_hash": pixels, "split": "", "label:finding": labels})
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(40, 1, 16, 16))
    return Store(tmp_path, images, table, {"table_sha256": "0" * 64})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each split that is made."""
    made: list[int] = []
    whole = assignment.assign
    monkeypatch.setattr(assignment, "assign", lambda *arguments: made.append(1) or whole(*arguments))
    return made


def same(one: Sides, other: Sides) -> bool:
    found = [(getattr(one.leaks, field.name), getattr(other.leaks, field.name)) for field in fields(Leaks)]
    return all(np.array_equal(a, b) for a, b in [(one.roles, other.roles), (one.held, other.held), *found])


def test_the_second_time_they_are_read_and_the_same(store: Store, calls: list[int], tmp_path: Path) -> None:
    first = cached.sides(store, "finding", Data(), tmp_path)
    again = cached.sides(store, "finding", Data(), tmp_path)
    assert len(calls) == 1
    assert same(first, again)
    assert {"train", "test"} <= set(first.roles) and first.held.any()
    assert len(first.leaks.contradictions) == 1 and again.leaks.sentences() == first.leaks.sentences()


@pytest.mark.parametrize("change", ["split_seed", "test_fraction", "holdout_fraction", "leaks", "stratum", "table", "code"])
def test_what_decides_them_finds_them_anew(change: str, store: Store, calls: list[int], tmp_path: Path, monkeypatch) -> None:
    cached.sides(store, "finding", Data(), tmp_path)
    other = {"split_seed": 1, "test_fraction": 0.3, "holdout_fraction": 0.3, "leaks": "drop"}
    if change == "table":
        store.card["table_sha256"] = "1" * 64
    if change == "code":
        monkeypatch.setattr(cached, "_code", lambda: "other")
    cached.sides(store, "" if change == "stratum" else "finding", Data(**{k: v for k, v in other.items() if k == change}), tmp_path)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["torn", "empty", "of another store"])
def test_a_damaged_file_is_no_obstacle(damage: str, store: Store, calls: list[int], tmp_path: Path) -> None:
    first = cached.sides(store, "finding", Data(), tmp_path)
    (file,) = (tmp_path / "sides").iterdir()
    whole = file.read_bytes()
    if damage == "of another store":
        np.savez(file, **{**np.load(file), "roles": first.roles[:3]})
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "torn" else b"")
    assert same(cached.sides(store, "finding", Data(), tmp_path), first)
    assert len(calls) == 2
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_time_only(store: Store, calls: list[int], tmp_path: Path) -> None:
    (tmp_path / "sides").write_text("a file, where a folder should be")
    assert same(*(cached.sides(store, "finding", Data(), tmp_path) for _ in range(2)))
    assert len(calls) == 2


def test_what_is_refused_is_not_kept(store: Store, tmp_path: Path) -> None:
    table = store.table.assign(split=["train"] * 20 + ["test"] * 20, patient="one")
    leaking = Store(store.path, store.images, table, store.card)
    with pytest.raises(UserError, match=r"data\.leaks=drop"):
        cached.sides(leaking, "finding", Data(), tmp_path)
    assert not (tmp_path / "sides").exists()
    assert leaks.find(table, store.images, table["split"].to_numpy(str)).certain
