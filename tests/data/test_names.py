"""Names of files and folders that are not UTF-8, from the listing to the store and its lists."""

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from medssl.config import Data
from medssl.data.cache import site_key
from medssl.data.names import readable, readable_source
from medssl.data.prepare import prepare
from medssl.data.store import list_named_images, private_list
from medssl.runs.resolve_config import list_source
from medssl.types import Record, Source


def test_latin_1_bytes_and_decomposed_letters_become_one_text() -> None:
    spellings = [os.fsdecode("Lungenödem".encode("latin-1")), unicodedata.normalize("NFD", "Lungenödem"), "Lungenödem"]
    assert {readable(name) for name in spellings} == {"Lungenödem"}
    assert readable("plain 01") == "plain 01"


def test_what_is_known_of_an_image_becomes_text_and_its_locator_stays(tmp_path: Path) -> None:
    name = os.fsdecode("Müller".encode("latin-1"))
    record = Record(f"{name}.png", "raster", labels={name: name}, patient=name, study=name, series=name, site=name, extra={"view": name})
    plain = Record("a.png", "raster", labels={"label": "x"})
    source = readable_source(Source("folder", tmp_path, (record, plain), notes=(name,)))
    assert source.records[0] == Record(
        f"{name}.png", "raster", 0, {"Müller": "Müller"}, "Müller", "Müller", "Müller", "Müller", extra={"view": "Müller"}
    )
    assert source.records[1] is plain
    assert source.notes == ("Müller", "1 files have names that are not UTF-8: labels and patients from them are read as Latin-1")


def test_folders_of_an_old_archive_are_prepared_and_its_files_named_in_their_own_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "data" / os.fsdecode(("Gesund", "Lungenödem")[number % 2].encode("latin-1"))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(folder / os.fsdecode(f"Müller_{number}.png".encode("latin-1")))
    (file,) = (tmp_path / "data").rglob("*_7.png")
    file.write_bytes(file.read_bytes()[:100])
    data = Data(path=str(tmp_path / "data"), source="folder", size=20)
    source = list_source(data)
    store = prepare(source, data, tmp_path / "cache")
    assert sorted(store.table["label:label"]) == ["Gesund"] * 4 + ["Lungenödem"] * 3
    assert "Lungenödem 4" in str(json.loads((store.path / "audit.json").read_text("utf-8"))["notes"])
    assert b"M\xfcller_7.png,truncated" in private_list(tmp_path / "cache", store.card["fingerprint"]).read_bytes()
    named = list(list_named_images(store, source, site_key(tmp_path / "cache")))
    assert sum((source.root / image.file).is_file() for image in named) == 8
