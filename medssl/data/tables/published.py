"""Information of published data sets outside their tables: in CheXpert's paths, and in two lists of files of NIH ChestX-ray14."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medssl.data.tables.columns import parse_split
from medssl.types import Record

_PATIENT = re.compile(r"patient[-_ ]?\d+", re.IGNORECASE)
_STUDY = re.compile(r"study[-_ ]?\d+", re.IGNORECASE)
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def fill_from_paths(records: Sequence[Record], split: bool) -> list[Record]:
    """The records with the patient and study that folders like patient00012/study3 name; with `split`, also the split that a folder called
    train, valid or test names. Records that have a patient are unchanged."""
    return [record if record.patient else _from_path(record, split) for record in records]


def fill_official_splits(records: Sequence[Record], folder: Path) -> list[Record]:
    """The records with the splits of the official lists beside the table. Unchanged where a list is missing or any record has a split."""
    files = [folder / name for name in _LISTS]
    if not all(file.is_file() for file in files) or any(record.split for record in records):
        return list(records)
    splits = {name.strip(): _LISTS[file.name] for file in files for name in file.read_text("utf-8", "replace").splitlines()}
    return [replace(record, split=splits.get(record.locator.replace("\\", "/").rpartition("/")[2])) for record in records]


def _from_path(record: Record, split: bool) -> Record:
    folders = record.locator.split("/")[:-1]
    patient = next((part for part in folders if _PATIENT.fullmatch(part)), None)
    study = next((part for part in folders if _STUDY.fullmatch(part)), None)
    named_split = next((name for part in folders if (name := parse_split(part))), None) if split else None
    return replace(record, patient=patient, study=record.study or (patient and study), split=record.split or named_split)
