import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medssl.config import Data
from medssl.data import prepare as prepare_module
from medssl.data.prepare import prepare
from medssl.data.pseudonyms import pseudonymize
from medssl.data.readers import raster
from medssl.data.store import private_list
from medssl.errors import UserError
from medssl.types import Record, Source

MakeSource = Callable[..., Source]
DATA = Data(size=20, max_bad_fraction=0.5)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_images_labels_and_splits_stand_in_the_order_of_the_records(make_source: MakeSource, cache: Path, pictures: np.ndarray) -> None:
    store = prepare(make_source(), DATA, cache)
    np.testing.assert_array_equal(store.images[:, 0], pictures)
    assert store.images.dtype == np.uint8
    assert store.table["label:finding"].tolist() == ["yes", "no", "yes", "no", "yes"]
    assert store.table["split"].tolist() == ["test", "train", "train", "train", "train"]
    assert store.table["extra:view"].tolist() == ["", "PA", "PA", "PA", "PA"]
    assert store.table["site"].tolist() == ["north"] * 5
    assert store.table["bits"].tolist() == [8] * 5


def test_one_patient_has_one_key_and_an_unknown_one_the_key_of_the_sample(make_source: MakeSource, cache: Path) -> None:
    table = prepare(make_source(), DATA, cache).table
    patients = table["patient"].tolist()
    assert patients[0] == patients[1] != patients[2] == patients[3] != patients[4] == table["key"][4]
    assert table["study"].ne("").tolist() == [True, True, False, False, False]
    hashes = [*patients, *table["key"], *table["study"][:2]]
    assert all(len(value) == 32 and int(value, 16) >= 0 for value in hashes)
    assert len(set(table["key"])) == 5


def test_frames_of_a_file_without_a_patient_are_one_patient_and_rows_of_an_array_are_not() -> None:
    site = bytes(32)
    frames = [pseudonymize(Record("a.dcm", "dicom", index), site) for index in (0, 1)]
    rows = [pseudonymize(Record("a.npz#train_images", "npz", index), site) for index in (0, 1)]
    assert frames[0].patient == frames[1].patient == frames[0].key != frames[1].key
    assert [row.patient for row in rows] == [row.key for row in rows]
    studies = [pseudonymize(Record(name, "dicom", study="1.2"), site) for name in ("a", "b")]
    assert studies[0].patient == studies[1].patient == studies[0].study


def test_keys_differ_between_sites_and_are_equal_within_one(make_source: MakeSource, tmp_path: Path) -> None:
    keys = [prepare(make_source(), DATA, tmp_path / name).table["patient"].tolist() for name in ("a", "b")]
    assert not set(keys[0]) & set(keys[1])
    other_size = prepare(make_source(), Data(size=16), tmp_path / "a").table["patient"].tolist()
    assert other_size == keys[0]


def test_no_identity_and_no_path_is_in_the_table_or_the_card(make_source: MakeSource, cache: Path) -> None:
    store = prepare(make_source(broken=(1,)), DATA, cache)
    for name in ("table.parquet", "card.json", "images.npy", "audit.json", "skipped.csv"):
        content = (store.path / name).read_bytes()
        for secret in (b"DOE", b"doe_", b"1.2.0", str(cache.parent).encode()):
            assert secret not in content, name


@pytest.mark.fault("S11")
def test_folders_are_0700_and_files_0600(make_source: MakeSource, cache: Path) -> None:
    old = os.umask(0o022)
    try:
        store = prepare(make_source(broken=(1,)), DATA, cache)
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in (cache, *cache.rglob("*")) if path.is_dir()} == {0o700}
    assert [path.name for path in files(store.path)] == [
        "audit.json",
        "card.json",
        "contact_sheet.png",
        "images.npy",
        "skipped.csv",
        "table.parquet",
    ]
    assert {path.stat().st_mode & 0o777 for path in files(cache)} == {0o600}


def test_the_card_counts_what_was_found(make_source: MakeSource, cache: Path) -> None:
    skipped = (("notes.txt", "not_an_image", "text"), ("plan.dcm", "no_pixels", "a plan"))
    card = prepare(make_source(broken=(1,), deep=(2,), skipped=skipped), DATA, cache).card
    assert card["counts"] == {
        "records": 5,
        "used": 4,
        "skipped": {"not_an_image": 1, "no_pixels": 1, "truncated": 1},
    }
    assert (card["shape"], card["dtype"], card["channels"], card["size"]) == ([4, 1, 20, 20], "uint16", 1, 20)
    assert card["versions"]["readers"] == {"raster": raster.Reader.version}


def test_a_broken_picture_is_left_out_and_named_in_the_private_list_only(
    make_source: MakeSource, cache: Path, pictures: np.ndarray
) -> None:
    store = prepare(make_source(broken=(1,)), DATA, cache)
    np.testing.assert_array_equal(store.images[:, 0], pictures[[0, 2, 3, 4]])
    (row,) = csv.DictReader((store.path / "skipped.csv").read_text().splitlines())
    assert (len(row["key"]), row["reason"]) == (32, "truncated")
    assert row["detail"]
    (named,) = csv.DictReader(private_list(cache, store.card["fingerprint"]).read_text().splitlines())
    assert named == {"file": "doe_1.png", **row}


def test_too_many_broken_pictures_stop_with_counts_and_the_remedy(make_source: MakeSource, cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare(make_source(broken=(1, 3)), Data(size=20, max_bad_fraction=0.39), cache)
    (private,) = (cache / "private").iterdir()
    for part in ("2 of 5", "2 x truncated", f"named in {private}", "--set data.max_bad_fraction=0.4"):
        assert part in str(caught.value)
    assert "doe" not in str(caught.value).removeprefix(str(cache))
    assert "doe_1.png" in private.read_text()
    assert not list(cache.glob("stores/*/card.json"))
    assert len(prepare(make_source(broken=(1, 3)), Data(size=20, max_bad_fraction=0.4), cache).images) == 3


@pytest.mark.fault("S6")
def test_a_file_named_like_a_formula_is_no_formula_in_the_list(make_source: MakeSource, cache: Path) -> None:
    source = make_source(skipped=(("=cmd|' /C calc'!A0", "unreadable", "no permission"),))
    store = prepare(source, DATA, cache)
    assert "'=cmd|" in private_list(cache, store.card["fingerprint"]).read_text()


def test_what_is_normal_beside_images_does_not_count_as_broken(make_source: MakeSource, cache: Path) -> None:
    skipped = tuple((f"plan_{number}.dcm", "no_pixels", "a plan") for number in range(50))
    source = make_source(skipped=skipped)
    (source.root / "report.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    report = replace(source, records=(*source.records, Record("report.dcm", "dicom")))
    assert len(prepare(report, Data(size=20, max_bad_fraction=0), cache).images) == 5
    faulty = replace(source, skipped=(("x.png", "unreadable", "no permission"),))
    with pytest.raises(UserError, match=r"1 of 6 .* unreadable"):
        prepare(faulty, Data(size=20, max_bad_fraction=0), cache)


def test_text_that_is_listed_as_a_picture_is_broken(make_source: MakeSource, cache: Path) -> None:
    source = make_source()
    (source.root / "doe_0.png").write_text("hello")
    with pytest.raises(UserError, match=r"1 of 5 .* not_an_image"):
        prepare(source, Data(size=20, max_bad_fraction=0), cache)
    assert len(prepare(source, Data(size=20, max_bad_fraction=0.01), cache).images) == 4, "one is always allowed, except by 0"


def test_nothing_usable_is_told_with_the_reasons(make_source: MakeSource, cache: Path) -> None:
    with pytest.raises(UserError, match=r"No image of .* can be used: 5 x truncated\. They are named in .*private"):
        prepare(make_source(broken=(0, 1, 2, 3, 4)), Data(size=20, max_bad_fraction=1), cache)


@pytest.mark.fault("D3")
def test_missing_decoders_are_told_once_before_anything_is_decoded(
    make_source: MakeSource, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = ["A needs: pip install a", "B needs: pip install b", "A needs: pip install a"]
    monkeypatch.setattr(prepare_module, "run_in_workers", lambda *_, **__: pytest.fail("it was decoded"))
    source = make_source(skipped=tuple((f"{number}.dcm", "missing_decoder", detail) for number, detail in enumerate(details)))
    with pytest.raises(UserError, match=r"2 x A needs: pip install a, 1 x B needs: pip install b\. Then run again"):
        prepare(source, Data(size=20, max_bad_fraction=1), cache)


def test_duplicates_and_the_content_do_not_depend_on_place_order_or_time(make_source: MakeSource, tmp_path: Path) -> None:
    source = make_source()
    first = prepare(source, DATA, tmp_path / "a").card
    moved = Source("dicom", source.root, tuple(reversed(source.records)))
    for file in source.root.iterdir():
        os.utime(file, ns=(1, 1))
    second = prepare(moved, DATA, tmp_path / "b").card
    assert first["content"] == second["content"]
    assert first["fingerprint"] != second["fingerprint"]
    relabelled = replace(source, records=(replace(source.records[0], labels={"finding": "perhaps"}), *source.records[1:]))
    assert prepare(relabelled, DATA, tmp_path / "a").card["content"] != first["content"]
    double = replace(source, records=(*source.records, source.records[2]))
    audit = json.loads((prepare(double, DATA, tmp_path / "a").path / "audit.json").read_text())
    assert audit["duplicates"]["equal"] == 2


def test_real_files_of_three_kinds_are_prepared_together(shared_data: Path, cache: Path) -> None:
    records = (
        *(Record("medmnist/pneumoniamnist.npz#val_images", "npz", row) for row in range(3)),
        Record("dicom/chest/CR-MONO1-10-chest.dcm", "dicom", patient="a"),
        *(
            Record(str(path.relative_to(shared_data)), "raster", patient=path.name[:8])
            for path in sorted((shared_data / "chestxray/nih_pneumonia_224").rglob("*.jpg"))[:3]
        ),
    )
    store = prepare(Source("manifest", shared_data, records), Data(size=224), cache)
    assert store.images.shape == (7, 1, 224, 224)
    assert store.images.dtype == np.uint16
    assert Counter(store.table["bits"]) == {8: 6, 10: 1}
    assert json.loads((store.path / "card.json").read_text())["counts"]["used"] == 7
    with Image.open(shared_data / records[4].locator) as picture:
        np.testing.assert_array_equal(store.images[4, 0], np.asarray(picture).astype(np.uint16) * 257)


@pytest.mark.fault("S20")
def test_the_processes_that_decode_files_get_no_patient_and_no_label(
    make_source: MakeSource, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    run = prepare_module.run_in_workers

    def listen(make: Any, arguments: tuple[Any, ...], items: Iterable[Any], *more: Any, **options: Any) -> object:
        items = list(items)
        sent.extend([*items, arguments])
        return run(make, arguments, items, *more, **options)

    monkeypatch.setattr(prepare_module, "run_in_workers", listen)
    prepare(make_source(), DATA.model_copy(update={"label": "finding"}), cache)
    assert sent[:5] == [Record(f"doe_{number}.png", "raster", 0) for number in range(5)]
    assert "finding" not in repr(sent)
