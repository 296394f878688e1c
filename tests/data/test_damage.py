"""Damage in compressed pictures that can be decoded all the same, as benchmarks/damage.py makes it."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from medssl.config import Data
from medssl.data.audit import audit_lines
from medssl.data.prepare import prepare
from medssl.data.store import Store, private_list
from medssl.errors import UserError
from medssl.types import Record, Source


@pytest.fixture(scope="module")
def damage(script: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return script("benchmarks/damage.py")


@pytest.fixture
def half_damaged(damage: ModuleType, tmp_path: Path) -> Source:
    """Four pictures: two good JPEG files, one that ends early, one whose data are zeros from the middle to near the end."""
    whole = damage.picture_file("JPEG")
    middle = len(whole) // 2
    contents = [whole, whole[:middle] + b"\xff\xd9", whole, whole[:middle] + bytes(middle - 20) + whole[2 * middle - 20 :]]
    (tmp_path / "data").mkdir()
    for number, content in enumerate(contents):
        (tmp_path / f"data/{number}.jpg").write_bytes(content)
    return Source("folder", tmp_path / "data", tuple(Record(f"{number}.jpg", "raster", patient=str(number)) for number in range(4)))


def told(store: Store) -> Iterator[str]:
    """What the audit says of damage."""
    return (line for heading, line in audit_lines(json.loads((store.path / "audit.json").read_text())) if heading == "damage")


def listed(cache: Path, store: Store) -> dict[str, str]:
    """{file: reason} of the operator's list."""
    with private_list(cache, store.card["fingerprint"]).open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.fault("I7")
def test_damaged_jpeg_files_are_left_out_and_told_with_the_setting_that_uses_them(half_damaged: Source, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = prepare(half_damaged, Data(size=32), cache)
    assert (len(store.images), store.card["suspect"], store.card["counts"]["skipped"]) == (2, 2, {"suspect": 2})
    assert listed(cache, store) == {"1.jpg": "suspect", "3.jpg": "suspect"}
    assert list(told(store)) == [
        "images with signs of damage in their compressed data: 2, which are left out. To use them: --set data.max_suspect_fraction=1"
    ]
    allowed = Data(size=32, max_suspect_fraction=0.5)
    used = prepare(half_damaged, allowed, cache)
    assert (len(used.images), used.card["suspect"], used.card["counts"]["skipped"]) == (4, 2, {})
    assert used.card["fingerprint"] == store.card["fingerprint"]
    assert listed(cache, used) == {"1.jpg": "suspect", "3.jpg": "suspect"}
    assert "which are used" in next(told(used))
    (half_damaged.root / "0.jpg").touch()  # the other images come from the store
    again = prepare(half_damaged, allowed, cache)
    assert again.card["suspect"] == 2
    assert again.card["fingerprint"] != used.card["fingerprint"]
    assert len(prepare(half_damaged, Data(size=32, max_suspect_fraction=0.49), cache).images) == 2


@pytest.mark.fault("I7")
def test_where_all_images_seem_damaged_the_message_names_the_setting(half_damaged: Source, tmp_path: Path) -> None:
    damaged = Source("folder", half_damaged.root, half_damaged.records[1::2])
    with pytest.raises(UserError, match=r"2 x suspect.*data\.max_suspect_fraction=1"):
        prepare(damaged, Data(size=32), tmp_path / "cache")


@pytest.mark.fault("D23", "I7")
def test_the_share_of_damaged_pictures_that_is_noticed(damage: ModuleType, tmp_path: Path) -> None:
    """The numbers of benchmarks/results/damage.md, in small. No good picture is suspect: `measure` asserts that."""
    noticed: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for outcome in damage.measure(tmp_path, 4, 1):
        if outcome.kind != "unchanged":
            noticed[outcome.damage, "2000" if "2000" in outcome.name else "other"].append(outcome.kind in ("refused", "suspect"))
    for way in ("zeros", "early end"):
        assert all(noticed[way, "2000"]) and all(noticed[way, "other"]), way
    assert sum(noticed["50 bits", "other"]) >= 0.9 * len(noticed["50 bits", "other"]) > 0
