import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medssl.config import Data
from medssl.data import decode
from medssl.data import prepare as prepare_module
from medssl.data.fingerprint import fingerprint
from medssl.data.prepare import prepare
from medssl.errors import ReadError, UserError
from medssl.types import Record, Source

MakeSource = Callable[..., Source]
DATA = Data(size=20, max_bad_fraction=0.5)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_store_that_is_there_is_used_again(make_source: MakeSource, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source()
    first = prepare(source, DATA, cache)
    monkeypatch.setattr(prepare_module, "prepared", lambda *_: pytest.fail("it was prepared again"))
    assert prepare(source, DATA, cache).path == first.path


@pytest.mark.parametrize(
    "change",
    [
        {"size": 32},
        {"channels": 3},
        {"limits": {"max_pixels": 1000}},
    ],
)
def test_other_settings_make_another_store(make_source: MakeSource, change: dict[str, object]) -> None:
    source = make_source()
    assert fingerprint(source, Data.model_validate(DATA.model_dump() | change)) != fingerprint(source, DATA)


def test_settings_that_change_no_pixel_keep_the_store(make_source: MakeSource) -> None:
    source = make_source()
    same = DATA.model_copy(update={"max_bad_fraction": 0.9, "label": "finding", "path": "elsewhere", "window": "none"})
    assert fingerprint(source, same) == fingerprint(source, DATA)
    radiographs = replace(source, records=(Record("doe_0.png", "dicom"),))
    assert fingerprint(radiographs, same) != fingerprint(radiographs, DATA)


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
    monkeypatch.setattr("medssl.data.readers.raster.Reader.version", "2")
    seen.add(fingerprint(source, DATA))
    assert len(seen) == 7
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in seen)


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


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_preparation_leaves_nothing(make_source: MakeSource, cache: Path, error: type[BaseException]) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise error

    with pytest.raises(error):
        prepare(make_source(), DATA, cache, stop)
    assert list((cache / "stores").iterdir()) == []


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
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_the_later_of_two_preparations_takes_the_store_of_the_earlier(make_source: MakeSource, cache: Path) -> None:
    source, stores = make_source(), []

    def other(done: int, _: int) -> None:
        if done == 3:
            stores.append(prepare(source, DATA, cache))

    store = prepare(source, DATA, cache, other)
    assert [path.name for path in (cache / "stores").iterdir()] == [store.path.name]
    assert store.path == stores[0].path


def test_a_store_that_appears_just_before_the_renaming_is_taken(
    make_source: MakeSource, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source()
    first = prepare(source, DATA, cache)
    answers = iter([None, None, first])
    monkeypatch.setattr(prepare_module, "_existing", lambda *_: next(answers))
    monkeypatch.setattr(prepare_module.shutil, "rmtree", lambda *_, **__: None)
    assert prepare(source, DATA, cache).path == first.path
    assert len(first.images) == 5


def test_a_pool_gives_the_same_results_in_the_same_order(make_source: MakeSource) -> None:
    source = make_source(deep=(1,), broken=(3,))
    alone = list(map(decode.Preparer(source.root, DATA), source.records))
    together = list(decode.pooled(source.records, source.root, DATA, 1))
    for one, other in zip(alone, together, strict=True):
        if isinstance(one, ReadError) or isinstance(other, ReadError):
            assert str(one) == str(other)
        else:
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1] == other[1]


def test_a_pool_is_used_only_where_it_pays(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source()
    many = replace(source, records=source.records * 400)
    used: list[int] = []
    monkeypatch.setattr(decode, "pooled", lambda records, *_: used.append(len(records)) or iter(records))
    monkeypatch.setattr(decode, "Preparer", lambda *_: lambda record: record)
    monkeypatch.setattr(decode, "_cores", lambda: 4)
    assert len(list(decode.prepared(many, DATA))) == 2000
    assert not used
    monkeypatch.setattr(decode, "_POOL_SECONDS", 0.0)
    assert len(list(decode.prepared(many, DATA))) == 2000
    assert used == [2000 - 64]
    assert len(list(decode.prepared(replace(many, records=many.records[:1999]), DATA))) == 1999
    monkeypatch.setattr(decode, "_cores", lambda: 1)
    assert len(list(decode.prepared(many, DATA))) == 2000
    assert used == [2000 - 64]


def test_a_cache_that_cannot_be_written_is_told_with_the_remedy(make_source: MakeSource, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/stores").write_text("a file")
    with pytest.raises(UserError, match=r"cannot be written: .* MEDSSL_CACHE"):
        prepare(make_source(), DATA, tmp_path / "cache")
