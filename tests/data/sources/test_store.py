"""A store as the data of another command."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.config import Data
from medssl.data.detect import detect
from medssl.data.peek import Peek, peek
from medssl.data.prepare import prepare
from medssl.data.sources import folder, store
from medssl.errors import UserError


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A store of three 16 x 24 pictures, prepared at 16 pixels with 3 channels."""
    (tmp_path / "data").mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (16, 24, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"data/{number}.png")
    source = folder.build(folder.Config(), str(tmp_path / "data"))
    return prepare(source, Data(size=16, channels=3), tmp_path / "cache", out=tmp_path / "store").path


def test_a_store_is_recognised_and_known_without_reading_an_image_again(prepared: Path, tmp_path: Path) -> None:
    assert detect(str(prepared)) == "store"
    assert detect(str(tmp_path / "data")) == "folder"
    source = store.build(store.Config(), str(prepared))
    assert (source.kind, source.root, source.records) == ("store", prepared, ())
    assert peek(source, Data()) == Peek(channels=3, edge=16, bits=8)


def test_it_is_used_as_it_is_and_nothing_else_is_made_of_it(prepared: Path, tmp_path: Path) -> None:
    source = store.build(store.Config(), str(prepared))
    found = prepare(source, Data(size=16, channels=3, leaks="drop"), tmp_path / "elsewhere")
    assert found.path == prepared
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(UserError, match=r"was prepared with data\.size = 16, not 32"):
        prepare(source, Data(size=32, channels=3), tmp_path / "elsewhere")


def test_a_damaged_store_is_refused(prepared: Path) -> None:
    (prepared / "table.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match="Prepare the data again"):
        store.build(store.Config(), str(prepared))
