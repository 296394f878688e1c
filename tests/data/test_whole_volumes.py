"""Whole volumes from a folder to a store: what the store holds, and that stores of images stay as they are."""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from whole_volumes import HEAD, LEFT, SPACING, marked, write_dicom, write_nifti

from medssl.config import Data
from medssl.data.audit import audit, audit_lines, contact_sheet
from medssl.data.image_hash import pixel_hash
from medssl.data.peek import peek
from medssl.data.prepare import prepare
from medssl.data.sources import dicom, nifti
from medssl.data.store import Store, changed_setting
from medssl.data.volume_records import as_volumes
from medssl.data.volume_slices import source_has_slices, store_has_slices
from medssl.data.volumes import Volumes
from medssl.errors import UserError
from medssl.types import Source

SETTINGS = {"volumes": "whole", "size": [10, 12, 14], "spacing_mm": list(SPACING)}  # as the volume is


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "data/a.nii.gz", marked(), "PIR")
    write_nifti(tmp_path / "data/b.nii", marked()[::-1], "RAS")
    write_nifti(tmp_path / "data/thin.nii", marked()[:3])
    return tmp_path


def source_of(folder: Path, **settings: object) -> tuple[Source, Data]:
    data = Data.model_validate({**SETTINGS, **settings})
    return as_volumes(nifti.build(nifti.Config(), str(folder / "data")), data), data


def make(folder: Path, **settings: object) -> Store:
    source, data = source_of(folder, **settings)
    return prepare(source, data, folder / "cache")


def test_a_store_holds_volumes_with_their_marks_and_their_places(folder: Path) -> None:
    store = make(folder)
    assert store.images.shape == (2, 1, 10, 12, 14) and store.card["format"] == "medssl-store-3"
    for row, volume in enumerate((marked(), marked()[::-1])):
        low, high = np.percentile(volume, (0.5, 99.5))
        np.testing.assert_allclose(store.images[row, 0] / 65535, np.clip((volume - low) / (high - low), 0, 1), atol=1e-4)
    assert store.images[0, 0][LEFT] == store.images[0, 0][HEAD] == 65535
    table = store.table
    assert table[["depth", "height", "width"]].to_numpy().tolist() == [[10, 12, 14]] * 2
    np.testing.assert_allclose(table[["slice_mm", "row_mm", "column_mm"]].to_numpy(), [SPACING] * 2)
    assert table["orientation"].tolist() == ["PIR", "RAS"] and table["filled"].tolist() == [0, 0]
    assert store.card["counts"]["skipped"] == {"few_slices": 1}
    assert store.card["settings"]["volumes"] == "whole" and store.card["settings"]["min_slices"] == 8
    again = Store.open(store.path)
    np.testing.assert_array_equal(again.images[:], store.images[:])


def test_volumes_are_samples_and_no_slices_that_would_be_grouped(folder: Path) -> None:
    store = make(folder)
    assert len(Volumes.of(store)) == 2
    assert not store_has_slices(store) and not source_has_slices(source_of(folder)[0])


def test_the_audit_counts_volumes_and_names_their_axes(folder: Path) -> None:
    store = make(folder)
    lines = list(audit_lines(audit(store, source_of(folder)[0])))
    text = "\n".join(f"{heading} {sentence}" for heading, sentence in lines)
    for sentence in ("volumes 2 used of 3 found (nifti)", "size 14 x 12 x 10 2", "slices 3.0 to 3.0 mm apart", "axes PIR 1, RAS 1"):
        assert sentence in text
    assert " images" not in text.split("note")[0]
    assert contact_sheet(store).size[0] == 2 * 192


def test_faults_and_leaks_are_those_of_volumes_and_not_of_images(folder: Path) -> None:
    write_nifti(folder / "data/train/c.nii", marked())
    write_nifti(folder / "data/test/d.nii", marked())
    source, _ = source_of(folder)
    records = tuple(replace(record, split={"train/c.nii": "train", "test/d.nii": "test"}.get(record.locator)) for record in source.records)
    leaking = replace(source, records=records)
    store = prepare(leaking, source_of(folder)[1], folder / "cache")
    assert "1 volumes have the same pixels as one of another split" in "; ".join(audit(store, leaking)["duplicates"]["leaks"])
    for name in ("e", "f"):
        write_nifti(folder / f"data/{name}.nii", np.full((10, 12, 14), 7, np.int16))
    with pytest.raises(UserError, match="2 of 6 volumes are faulty"):
        make(folder)


def test_a_changed_volume_alone_is_read_again_and_the_other_is_copied_with_its_facts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(folder)
    write_nifti(folder / "data/b.nii", marked()[:, ::-1], "RAS")
    from medssl.data import prepare as module

    decoded: list[str] = []
    plain = module._decode

    def counted(plan, records):
        records = list(records)
        decoded.extend(record.locator for record in records)
        return plain(plan, records)

    monkeypatch.setattr(module, "_decode", counted)
    second = make(folder)
    assert sorted(decoded) == ["b.nii", "thin.nii"]
    np.testing.assert_array_equal(second.images[0], first.images[0])
    columns = ["depth", "slice_mm", "orientation", "filled", "tilt_degrees", "row_mm", "pixel_hash", "made"]
    assert second.table[columns].iloc[0].tolist() == first.table[columns].iloc[0].tolist()


def test_settings_of_volumes_have_stores_of_their_own_and_a_mismatch_is_named(folder: Path) -> None:
    store = make(folder)
    assert make(folder, min_slices=2).path != store.path != make(folder, size=[12, 12, 14]).path
    images = Data(size=16)
    assert changed_setting(store.card["settings"], images) == ("volumes", "whole", "slices")
    assert changed_setting(store.card["settings"], source_of(folder)[1]) is None


def test_damaged_voxels_are_found(folder: Path) -> None:
    store = make(folder)
    file = store.path / "images.npy"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged|no store"):
        Store.open(store.path).images[1]


@pytest.mark.slow
def test_a_store_of_40_gigabytes_opens_in_two_seconds(folder: Path) -> None:
    """A file without content: the disk stores no zeros."""
    store = make(folder)
    shape, volume = (1200, 1, 256, 256, 256), np.zeros((1, 256, 256, 256), np.uint16)
    np.lib.format.open_memmap(store.path / "images.npy", "w+", np.uint16, shape)
    table = store.table.iloc[[0] * shape[0]].assign(pixel_hash=pixel_hash(volume, 16))
    table.to_parquet(store.path / "table.parquet", index=False)
    digest = hashlib.sha256((store.path / "table.parquet").read_bytes()).hexdigest()
    (store.path / "card.json").write_text(json.dumps({**store.card, "shape": list(shape), "dtype": "uint16", "table_sha256": digest}))
    started = time.process_time()
    images = Store.open(store.path).images
    assert images.size * images.dtype.itemsize > 40e9
    assert time.process_time() - started < 2


def test_a_dicom_series_is_prepared_and_a_change_of_any_slice_is_seen(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "data", marked(), "LIP")
    data = Data.model_validate(SETTINGS)

    def prepared() -> Store:
        return prepare(as_volumes(dicom.build(dicom.Config(), str(tmp_path / "data")), data), data, tmp_path / "cache")

    store = prepared()
    low, high = np.percentile(marked(), (0.5, 99.5))
    np.testing.assert_allclose(store.images[0, 0] / 65535, np.clip((marked() - low) / (high - low), 0, 1), atol=1e-3)
    assert store.table["slice_mm"].iloc[0] == pytest.approx(3.0) and prepared().path == store.path
    content = bytearray(files[4].read_bytes())
    content[-1] ^= 8
    files[4].write_bytes(content)
    assert prepared().table["pixel_hash"].iloc[0] != store.table["pixel_hash"].iloc[0]


def test_a_look_at_volumes_knows_their_edge_and_what_they_are(folder: Path) -> None:
    source, data = source_of(folder)
    look = peek(source, data)
    assert (look.channels, look.edge, dict(look.modalities)) == (1, 10, {"MR": 2})


def test_a_store_of_images_has_the_format_columns_and_settings_that_it_had(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)).save(tmp_path / "data/a.png")
    from medssl.data.sources import folder as pictures

    store = prepare(pictures.build(pictures.Config(), str(tmp_path / "data")), Data(size=20), tmp_path / "cache")
    card = json.loads((store.path / "card.json").read_text())
    assert card["format"] == "medssl-store-2" and card["preparation"]["version"] == "2"
    assert list(card["settings"]) == ["size", "channels", "window", "spacing_mm", "non_finite", "transforms", "used_bits"]
    assert not {"depth", "slice_mm", "orientation", "filled", "tilt_degrees"} & set(store.table.columns)
