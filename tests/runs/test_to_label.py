"""The list of files to label has those of unseen patients without a label, and is for the operator alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.data.cache import cache_folder, site_key
from medssl.data.pseudonyms import pseudonymize
from medssl.data.split import find_leaks
from medssl.data.store import Store
from medssl.runs.dataset import PreparedDataset
from medssl.runs.to_label import has_labels, name_unseen, write_list
from medssl.types import Record, Source


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PreparedDataset, Source]:
    """Six images of three files, two of which are labelled."""
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    records = tuple(Record(f"doe^{n // 2}.dcm", "dicom", n % 2, patient=str(n // 2)) for n in range(6))
    hashes = [pseudonymize(record, site_key(cache_folder())) for record in records]
    table = pd.DataFrame({"key": [h.key for h in hashes], "patient": [h.patient for h in hashes], "split": ""})
    table["pixel_hash"], table["label:x"] = table["key"], ["1", "0", "", "", "", ""]
    store = Store(tmp_path, np.zeros((6, 1, 4, 4), np.uint8), table, {"fingerprint": "f" * 16})  # pyright: ignore[reportArgumentType]
    roles = np.full(6, "train")
    return PreparedDataset(store, roles, roles == "test", "", find_leaks(table, store.images, roles)), Source("dicom", tmp_path, records)


def test_files_of_unseen_patients_without_a_label_are_named_once_and_privately(named: tuple[PreparedDataset, Source]) -> None:
    dataset, source = named
    assert has_labels(dataset).tolist() == [True, True, False, False, False, False]
    path = write_list(dataset, source, np.array([True] * 4 + [False] * 2))
    assert path is not None and path.parent == cache_folder() / "private"
    assert path.read_text().split() == ["file", "doe^1.dcm"]
    assert path.stat().st_mode & 0o077 == 0
    card = {"pretraining": {"patients": [dataset.store.table["patient"][2][:16]], "pixels": []}}
    assert name_unseen(dataset, source, card) == f", named in {path}"
    assert path.read_text().split() == ["file", "doe^2.dcm"]


def test_there_is_no_list_where_nothing_is_to_be_named(named: tuple[PreparedDataset, Source]) -> None:
    dataset, source = named
    assert write_list(dataset, source, np.zeros(6, bool)) is None
    assert write_list(dataset, replace(source, kind="store", records=()), np.ones(6, bool)) is None
    assert name_unseen(dataset, replace(source, records=()), {"pretraining": {"patients": [], "pixels": []}}) == ""
