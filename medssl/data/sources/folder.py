"""A folder of raster images: flat, in class folders, in train/val/test folders, with or without a table beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medssl.data.sources import _walk
from medssl.data.sources._beside import BesideConfig, joined
from medssl.data.sources._columns import split_named
from medssl.data.sources._tables import SUFFIXES as TABLE_SUFFIXES
from medssl.errors import UserError
from medssl.types import Record, Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_PATIENT_FOLDER = re.compile(r"(patient|pat|subject|subj|sub|case)[-_ ]?\d+", re.IGNORECASE)


class Config(BesideConfig):
    name: str = "folder"


def recognises(data: str) -> bool:
    """Any folder: `build` says what it misses."""
    return Path(data).expanduser().is_dir()


def build(config: Config, data: str) -> Source:
    """Lists the images below the folder `data`: candidates by suffix, no file is opened.

    The first-level folders are the classes (label "label") where every image lies in one and there are several; folders named train,
    val and test are splits, the classes then one level down; folders named like patient00012 are patients. A labels.csv, or the only
    CSV or Parquet file beside the images, is joined by path. Raises UserError where there is no image, and for a table that is wrong.
    """
    root = _walk.folder_of(data)
    locators, skipped, others = [], [], Counter[str]()
    for found in _walk.below(root):
        suffix = PurePosixPath(found.locator).suffix.lower()
        if found.reason:
            skipped.append(found)
        elif suffix in SUFFIXES:
            locators.append(found.locator)
        else:
            others[suffix or "no suffix"] += 1
    seen = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8)) or "no files"
    if not locators:
        problems = f", {len(skipped)} that cannot be opened (first: {skipped[0].locator}, {skipped[0].detail})" if skipped else ""
        raise UserError(
            f"There is no image below {root}; it holds {seen}{problems}. "
            f"Understood are PNG, JPEG, TIFF and BMP files, folders of DICOM files, CSV or Parquet manifests and MedMNIST .npz files."
        )
    records, notes = _by_folders(locators)
    records, more = joined(records, root, config, [item.locator for item in skipped])
    left_out = [f"other files left out: {seen}"] if others.keys() - set(TABLE_SUFFIXES) else []
    return Source("folder", root, tuple(records), (*notes, *more, *left_out), tuple(skipped))


def _by_folders(locators: Sequence[str]) -> tuple[list[Record], list[str]]:
    """What the folders' names say of the images: split, then class or patient."""
    records = [Record(locator, "raster") for locator in locators]
    folders = [PurePosixPath(locator).parts[:-1] for locator in locators]
    notes = []
    first = {parts[0] if parts else "" for parts in folders}
    splits = sorted(name for name in first if split_named(name))
    if splits and (len(splits) == len(first) or "train" in map(split_named, splits)):
        if strays := sorted(first.difference(splits)):
            raise UserError(
                f"The folders {', '.join(splits)} are splits, but there are also images in {strays[0] or 'the folder itself'!r}. "
                "Move them into one of the splits, or out of the data folder."
            )
        records = [replace(record, split=split_named(parts[0])) for record, parts in zip(records, folders, strict=True)]
        folders = [parts[1:] for parts in folders]
        notes.append("splits from the folders: " + _counts(record.split for record in records))
    names = {parts[0] if parts else "" for parts in folders}
    if all(_PATIENT_FOLDER.fullmatch(name) for name in names):
        notes.append(f"{len(names)} folders taken as patients")
        return [replace(record, patient=parts[0]) for record, parts in zip(records, folders, strict=True)], notes
    if len(names) < 2:
        return records, notes
    if "" in names:
        return records, [*notes, "no classes from the folders: some images lie outside them"]
    records = [replace(record, labels={"label": parts[0]}) for record, parts in zip(records, folders, strict=True)]
    return records, [*notes, "classes from the folders: " + _counts(record.labels["label"] for record in records)]


def _counts(names: Iterable[str | None]) -> str:
    counted = Counter(map(str, names))
    more = f" and {len(counted) - 20} more" if len(counted) > 20 else ""
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())[:20]) + more
