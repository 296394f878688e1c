import os
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import Data
from medssl.data import prepare as prepare_module
from medssl.data.prepare import Shard, prepare, prepare_shard
from medssl.data.store import Store, chunks
from medssl.data.store.fingerprint import SourceHash
from medssl.data.store.fingerprint import fingerprint as of_makings
from medssl.data.workers import pool
from medssl.errors import UserError
from medssl.types import Record, Source

MakeSource = Callable[..., Source]
DATA = Data(size=20, max_bad_fraction=0.5)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def fingerprint(source: Source, data: Data) -> str:
    return of_makings(source, map(SourceHash(source, data).of, source.records), "store")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_store_that_is_there_is_used_again(make_source: MakeSource, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source()
    first = prepare(source, DATA, cache)
    monkeypatch.setattr(prepare_module, "run_in_workers", lambda *_, **__: pytest.fail("it was prepared again"))
    assert prepare(source, DATA, cache).path == first.path


@pytest.mark.fault("R18")
@pytest.mark.parametrize(
    "change",
    [
        {"size": 32},
        {"channels": 3},
        {"limits": {"max_pixels": 1000}},
        {"spacing_mm": 0.5},
        {"transforms": ({"name": "monai.transforms.AdjustContrast", "gamma": 2},)},
    ],
)
def test_other_settings_make_another_store(make_source: MakeSource, change: dict[str, object]) -> None:
    source = make_source()
    assert fingerprint(source, Data.model_validate(DATA.model_dump() | change)) != fingerprint(source, DATA)


def test_settings_that_change_no_pixel_keep_the_store(make_source: MakeSource) -> None:
    source = make_source()
    same = DATA.model_copy(update={"max_bad_fraction": 0.9, "label": "finding", "path": "elsewhere", "window": "none", "leaks": "drop"})
    assert fingerprint(source, same) == fingerprint(source, DATA)
    radiographs = replace(source, records=(Record("doe_0.png", "dicom"),))
    assert fingerprint(radiographs, same) != fingerprint(radiographs, DATA)


@pytest.mark.fault("R18")
def test_changed_files_labels_and_readers_make_another_store(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source()
    seen = {fingerprint(source, DATA)}
    for records in (source.records[1:], source.records[::-1], (replace(source.records[0], split="val"), *source.records[1:])):
        seen.add(fingerprint(replace(source, records=records), DATA))
    os.utime(source.root / "doe_2.png", ns=(5, 5))
    seen.add(fingerprint(source, DATA))
    (source.root / "doe_2.png").write_bytes(b"longer" * 100)
    os.utime(source.root / "doe_2.png", ns=(5, 5))
    seen.add(fingerprint(source, DATA))
    monkeypatch.setattr("medssl.data.readers.raster.Reader.version", "another")
    seen.add(fingerprint(source, DATA))
    assert len(seen) == 7
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in seen)


@pytest.mark.fault("R18")
def test_a_damaged_store_is_made_again(make_source: MakeSource, cache: Path, pictures: np.ndarray) -> None:
    source = make_source()
    path = prepare(source, DATA, cache).path
    (path / "images.npy").write_bytes(b"torn")
    store = prepare(source, DATA, cache)
    assert store.path == path
    np.testing.assert_array_equal(store.images[:, 0], pictures)


def test_a_store_of_another_site_key_is_made_again(make_source: MakeSource, cache: Path) -> None:
    source = make_source()
    first = prepare(source, DATA, cache).table["patient"].tolist()
    (cache / "site.key").unlink()
    second = prepare(source, DATA, cache)
    assert second.table["patient"].tolist() != first
    assert prepare(source, DATA, cache).table["patient"].tolist() == second.table["patient"].tolist()


@pytest.mark.fault("R25")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_preparation_leaves_its_chunks_and_goes_on_from_them(
    make_source: MakeSource, cache: Path, pictures: np.ndarray, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_MAX_RECORDS", 2)

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise error

    source, seen = make_source(broken=(1,)), []
    with pytest.raises(error):
        prepare(source, DATA, cache, stop)
    (left,) = (cache / "stores").iterdir()
    assert len(list(left.glob("*.chunk"))) == 2
    store = prepare(source, DATA, cache, lambda done, total: seen.append((done, total)))
    assert seen == [(4, 5), (5, 5)]
    np.testing.assert_array_equal(store.images[:, 0], pictures[[0, 2, 3, 4]])
    assert [path.name for path in (cache / "stores").iterdir()] == [store.path.name]


@pytest.mark.fault("S4")
def test_a_chunk_that_is_damaged_or_a_planted_pickle_is_refused(
    make_source: MakeSource, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "it-ran",)

    source = make_source()
    prepare_shard(source, DATA, cache, Shard(1, 1))
    (chunk,) = cache.glob("stores/*.chunks/*.chunk")
    for planted in (pickle.dumps(Evil()), chunk.read_bytes()[:-100]):
        chunk.write_bytes(planted)
        with pytest.raises(UserError, match="damaged chunk is made again once it is deleted"):
            prepare(source, DATA, cache)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3)])
def test_shards_join_to_the_store_that_one_machine_makes(
    make_source: MakeSource, tmp_path: Path, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_MAX_RECORDS", 1)
    source = make_source(deep=(1,), broken=(3,))
    alone = prepare(source, DATA, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/site.key").write_bytes((tmp_path / "a/site.key").read_bytes())
    assert sum(prepare_shard(source, DATA, tmp_path / "b", Shard(number, 3)) for number in order) == (5 if len(order) == 3 else 3)
    joined = prepare(source, DATA, tmp_path / "b")
    assert joined.path.name == alone.path.name
    for name in ("images.npy", "table.parquet", "skipped.csv", "card.json", "audit.json"):
        assert (joined.path / name).read_bytes() == (alone.path / name).read_bytes(), name


def test_only_the_file_that_changed_is_read_again(make_source: MakeSource, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(deep=(1,))
    first = prepare(source, DATA, cache)
    read: list[str] = []

    def counted(make, arguments, items, limits, group_by):
        return pool.run_in_workers(make, arguments, (read.append(item.locator) or item for item in items), limits)

    monkeypatch.setattr(prepare_module, "run_in_workers", counted)
    os.utime(source.root / "doe_2.png", ns=(5, 5))
    again = prepare(source, DATA, cache)
    assert read == ["doe_2.png"]
    assert again.path != first.path
    np.testing.assert_array_equal(again.images, first.images)
    pd.testing.assert_frame_equal(again.table.drop(columns="made"), first.table.drop(columns="made"))
    relabelled = replace(source, records=tuple(replace(record, labels={"finding": "new"}) for record in source.records))
    assert prepare(relabelled, DATA, cache).table["label:finding"].tolist() == ["new"] * 5
    assert read == ["doe_2.png"]


def test_a_store_in_a_folder_of_ones_own_is_replaced_by_one_of_other_data_but_nothing_else_is(
    make_source: MakeSource, tmp_path: Path
) -> None:
    source, out = make_source(), tmp_path / "stores/mine"
    assert prepare(source, DATA, tmp_path / "cache", out=out).path == out
    shorter = replace(source, records=source.records[:3])
    assert len(prepare(shorter, DATA, tmp_path / "cache", out=out).images) == 3
    with pytest.raises(UserError, match="is not a complete store"):
        prepare(source, DATA, tmp_path / "cache", out=source.root)
    (tmp_path / "other").mkdir()
    for file in source.root.iterdir():
        (tmp_path / "other" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="is a store of other data"):
        prepare(replace(source, root=tmp_path / "other"), DATA, tmp_path / "cache", out=out)
    assert len(Store.open(out).images) == 3


def test_nothing_beside_a_folder_of_ones_own_is_swept(make_source: MakeSource, tmp_path: Path) -> None:
    own = [tmp_path / name for name in ("mine.chunks", "mine.partial-1")]
    for folder in own:
        folder.mkdir()
        os.utime(folder, (1, 1))
    prepare(make_source(), DATA, tmp_path / "cache", out=tmp_path / "store")
    assert all(folder.is_dir() for folder in own)


def test_what_a_killed_preparation_left_is_swept_after_a_day(make_source: MakeSource, cache: Path) -> None:
    old, young = cache / "stores/0123.partial-9-x", cache / "stores/0123.partial-9-y"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 90000, time.time() - 90000))
    prepare(make_source(), DATA, cache)
    assert not old.exists()
    assert young.exists()


def test_progress_counts_every_record(make_source: MakeSource, cache: Path) -> None:
    seen = []
    prepare(make_source(broken=(1,)), DATA, cache, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.fault("R19")
def test_the_later_of_two_preparations_takes_the_store_of_the_earlier(make_source: MakeSource, cache: Path) -> None:
    source, stores = make_source(), []

    def other(done: int, _: int) -> None:
        if done == 3 and not stores:
            stores.append(prepare(source, DATA, cache))

    store = prepare(source, DATA, cache, other)
    assert [path.name for path in (cache / "stores").iterdir()] == [store.path.name]
    assert store.path == stores[0].path


def test_a_cache_that_cannot_be_written_is_told_with_the_remedy(make_source: MakeSource, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/stores").write_text("a file")
    with pytest.raises(UserError, match=r"cannot be written: .* MEDSSL_CACHE"):
        prepare(make_source(), DATA, tmp_path / "cache")
