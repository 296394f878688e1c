"""Volumes of a store: which slices each has, that no split cuts one in two, and to what the labels belong."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.data.split.leaks import FLAT
from medssl.data.volumes import Volumes, find_volumes


def a_store(series: list[str], readers: list[str] = ["nifti"], **columns: list[str]) -> Any:  # noqa: B006 - it is not changed
    number = len(series)
    table = pd.DataFrame({"key": [f"k{n}" for n in range(number)], "series": series, "pixel_hash": [f"p{n}" for n in range(number)]})
    for name, values in columns.items():
        table[name.replace("_", ":", 1)] = values
    return SimpleNamespace(
        table=table, images=np.zeros((len(table), 1, 2, 2), np.uint8), card={"versions": {"readers": dict.fromkeys(readers, "1")}}
    )


def test_slices_that_stand_apart_belong_to_one_volume_in_their_order_and_a_single_image_is_a_volume() -> None:
    volumes = Volumes.of(a_store(["a", "", "b", "a", "b", "a"]))
    assert volumes.table["key"].tolist() == ["a", "k1", "b"]
    assert volumes.sizes.tolist() == [3, 1, 2]
    assert volumes.of_rows.tolist() == [0, 1, 2, 0, 2, 0]
    found = volumes.slices(np.array([2, 0]))
    assert (found.rows.tolist(), found.starts.tolist()) == ([2, 4, 0, 3, 5], [0, 2])
    assert len(set(volumes.table["pixel_hash"])) == 3
    again = Volumes.of(a_store(["a", "", "b", "a", "b", "a"], label_x=list("mnmnmn")))
    assert again.table["pixel_hash"].tolist() == volumes.table["pixel_hash"].tolist()


@pytest.mark.parametrize(("modality", "number"), [("CT", 2), ("MR", 2), ("US", 4), ("DX", 4)])
def test_a_dicom_series_is_a_volume_where_its_modality_stores_slices(modality: str, number: int) -> None:
    store = a_store(["a", "a", "b", "b"], ["dicom"], **{"extra:modality": [modality] * 4})
    assert len(Volumes.of(store).table) == number


def test_the_pages_of_a_picture_are_no_volume() -> None:
    assert len(Volumes.of(a_store(["a", "a"], ["raster"])).table) == 2


def test_parts_hold_whole_volumes_and_all_of_them_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medssl.data.volumes._BLOCK", 4)
    volumes = Volumes.of(a_store([f"v{n // 3}" for n in range(20)]))
    parts = [part.tolist() for part in volumes.blocks(np.arange(7))]
    assert len(parts) > 2
    assert [volume for part in parts for volume in part] == list(range(7))


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["train", "train", "test", "test"], ["train", "test"]),
        (["train", "test", "val", "train"], ["test", "val"]),
        (["train", "", "test", "test"], ["", "test"]),
        (["", "train", "", "test"], ["train", "test"]),
        (["", "", "train", "train"], ["", "train"]),
    ],
    ids=["whole", "cut in two", "a slice leaks", "flat slices are left out", "nothing is left"],
)
def test_a_volume_has_one_role_and_is_not_used_where_a_slice_leaks(roles: list[str], expected: list[str]) -> None:
    store = a_store(["a", "a", "b", "b"], perceptual_hash=[FLAT, "1", FLAT, "2"])
    store.table.columns = [name.replace("perceptual:hash", "perceptual_hash") for name in store.table]
    assert Volumes.of(store).roles(np.array(roles), store.table).tolist() == expected


@pytest.mark.parametrize("labels", ["xxyy", "xx  ", "yyyy"])
def test_labels_that_all_slices_of_a_volume_share_are_those_of_the_volume(labels: str) -> None:
    volumes, sentence = find_volumes(a_store(["a", "a", "b", "b"], label_x=[label.strip() for label in labels]), ["x"])
    assert volumes is not None
    assert volumes.table["label:x"].tolist() == [labels[0], labels[2].strip()]
    assert "2 volumes of 4 slices" in sentence


@pytest.mark.parametrize("labels", ["xyyy", "x yy"])
def test_labels_that_differ_inside_a_volume_are_those_of_slices_and_that_is_said(labels: str) -> None:
    volumes, sentence = find_volumes(a_store(["a", "a", "b", "b"], label_x=[label.strip() for label in labels]), ["x"])
    assert volumes is None
    assert "slices of 1 of 2 volumes" in sentence
    assert "not pooled" in sentence


def test_images_and_volumes_of_one_slice_are_images_and_nothing_is_said() -> None:
    assert find_volumes(a_store(["a", "b", ""], label_x=list("xyx")), ["x"]) == (None, "")
