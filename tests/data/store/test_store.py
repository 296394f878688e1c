import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import Data
from medssl.data.image_hash import pixel_hash
from medssl.data.loader import Batches, Loader
from medssl.data.prepare import prepare
from medssl.data.store import Store
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


@pytest.fixture
def zeroed(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose rows 3 and 4 were zeroed, where opening it looks at row 0 only."""
    monkeypatch.setattr("medssl.data.store.store._CHECKED_ROWS", 1)
    with (store.path / "images.npy").open("r+b") as file:
        file.seek(-2 * 400, 2)
        file.write(bytes(800))
    return Store.open(store.path)


@pytest.mark.fault("R26")
@pytest.mark.parametrize(
    "index", [3, np.array([0, 4]), [1, 3], slice(2, None), slice(None), (slice(None), 0), np.arange(5) > 2, (3, 0), Ellipsis, -1]
)
def test_damaged_rows_are_refused_when_they_are_read(zeroed: Store, pictures: np.ndarray, index: object) -> None:
    for images in (zeroed.images, pickle.loads(pickle.dumps(zeroed.images))):  # noqa: S301 - our own
        np.testing.assert_array_equal(images[:3, 0], pictures[:3])
        np.testing.assert_array_equal(images[np.array([2, 0])], pictures[[2, 0], None])
        with pytest.raises(UserError, match=r"damaged: the pixels of row [34] .* Delete that folder and prepare the data again"):
            images[index]


@pytest.mark.fault("R26")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_on_damaged_rows_ends_with_one_sentence(zeroed: Store, workers: int) -> None:
    loader = Loader(Batches(zeroed.images, np.arange(5), lambda image, key: image, 0, 5), 1, workers=workers)
    with pytest.raises(UserError) as caught:
        next(iter(loader))
    assert str(caught.value).startswith(f"{zeroed.path} is damaged: the pixels of row ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.fault("R26")
def test_damaged_rows_of_an_earlier_store_are_read_again(
    make_source: Callable[..., Source], tmp_path: Path, zeroed: Store, pictures: np.ndarray
) -> None:
    source = make_source()  # the files have other times now
    (source.root / "doe_0.png").touch()
    store = prepare(source, Data(size=20), tmp_path / "cache")
    assert store.path != zeroed.path
    np.testing.assert_array_equal(store.images[:, 0], pictures)


def test_a_row_is_hashed_once_in_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Store.open(store.path).images
    images[:]
    monkeypatch.setattr("medssl.data.store.images.pixel_hash", lambda *_: pytest.fail("hashed again"))
    assert images[np.arange(5)].shape == (5, 1, 20, 20)
