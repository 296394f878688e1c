import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import Data
from medssl.data.prepare import prepare
from medssl.data.store import Store
from medssl.data.store.store import pixel_hash
from medssl.errors import UserError
from medssl.types import Source


@pytest.fixture
def store(make_source: Callable[..., Source], tmp_path: Path) -> Store:
    return prepare(make_source(), Data(size=20), tmp_path / "cache")


def test_a_store_opens_with_what_was_written(store: Store, pictures: np.ndarray) -> None:
    again = Store.open(store.path)
    np.testing.assert_array_equal(again.images[:, 0], pictures)
    pd.testing.assert_frame_equal(again.table, store.table)
    assert again.card == store.card


def test_the_images_are_mapped_and_cannot_be_written(store: Store) -> None:
    assert isinstance(store.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.images[0] = 0


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"is no store .* Prepare the data again"):
            Store.open(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def card(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: cut(path / "images.npy"),
        lambda path: cut(path / "table.parquet"),
        lambda path: cut(path / "card.json"),
        lambda path: flip(path / "images.npy"),
        lambda path: flip(path / "table.parquet"),
        lambda path: (path / "images.npy").write_bytes(b""),
        lambda path: (path / "card.json").unlink(),
        lambda path: (path / "card.json").write_text("[]"),
        lambda path: card(path / "card.json", format="medssl-store-0"),
        lambda path: card(path / "card.json", shape=[4, 1, 20, 20]),
        lambda path: card(path / "card.json", dtype="uint16"),
        lambda path: np.save(path / "images.npy", np.array([{}], dtype=object)),
        lambda path: np.save(path / "images.npy", np.load(path / "images.npy")[::-1]),
        lambda path: pd.read_parquet(path / "table.parquet")[:4].to_parquet(path / "table.parquet"),
    ],
)
def test_a_damaged_store_is_refused(store: Store, damage: Callable[[Path], object]) -> None:
    damage(store.path)
    with pytest.raises(UserError, match=r"is no store that this version can read"):
        Store.open(store.path)


def test_the_pixel_hash_does_not_depend_on_the_depth_of_the_store(pictures: np.ndarray) -> None:
    narrow, wide = pictures[:1], pictures[:1].astype(np.uint16) * 257
    assert pixel_hash(wide, 8) == pixel_hash(narrow, 8)
    assert pixel_hash(wide, 12) != pixel_hash(narrow, 8)
    assert pixel_hash(pictures[1:2], 8) != pixel_hash(narrow, 8)
