"""A folder of raster images: flat, in class folders, in train/val/test folders, with or without a table beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medssl.data import walk
from medssl.data.formats import picture_pages
from medssl.data.frame_policy import FramePolicy, choose_frames
from medssl.data.tables import SUFFIXES as TABLE_SUFFIXES
from medssl.data.tables import JoinConfig, join_table, parse_split
from medssl.data.walk import are_patients
from medssl.errors import UserError
from medssl.types import Record, Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_PAGED = (".tif", ".tiff")
# Of other files the suffix is told, unless it could be part of a name
_OTHERS = re.compile(
    r"\.(csv|dcm|gif|gz|hdr|img|ini|jp2|json|log|md|mha|mhd|nii|npy|npz|nrrd|parquet|pdf|svs|tar|tsv|txt|webp|xlsx|xml|yaml|zip)"
)


class Config(JoinConfig):
    """`frames`: of a TIFF file of several pages, all, first, middle or every_N, as every_5."""

    name: str = "folder"
    frames: FramePolicy = "all"


def recognises(data: str) -> bool:
    """Any folder: `build` says what it misses."""
    return Path(data).expanduser().is_dir()


def build(config: Config, data: str) -> Source:
    """Lists the images below the folder `data`: candidates by suffix; of TIFF files the pages are counted, others are not opened.

    The first-level folders are the classes (label "label") where every image lies in one and there are several; folders named train,
    val and test are splits, the classes then one level down; folders named like patient00012, DOE^JANE or 20240131, or far too many
    for classes, are patients. A labels.csv, or the only CSV or Parquet file beside the images, is joined by path. Raises UserError
    where there is no image, and for a table that is wrong.
    """
    root = walk.resolve_folder(data)
    locators, skipped, others = [], [], Counter[str]()
    for found in walk.list_files(root):
        suffix = PurePosixPath(found.locator).suffix.lower()
        if found.reason:
            skipped.append(found)
        elif suffix in SUFFIXES:
            locators.append(found.locator)
        else:
            others[suffix if _OTHERS.fullmatch(suffix) else "of other kinds"] += 1
    seen = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8)) or "no files"
    if not locators:
        problems = f", {len(skipped)} that cannot be opened ({_counts(item.reason for item in skipped)})" if skipped else ""
        raise UserError(
            f"There is no image below {data}; it holds {seen}{problems}. Understood are PNG, JPEG, TIFF and BMP files, "
            "folders of DICOM or NIfTI files, CSV or Parquet manifests and MedMNIST .npz files."
        )
    records, notes = _by_folders(locators, root, config.frames)
    records, more = join_table(records, root, config, [item.locator for item in skipped])
    left_out = [f"other files left out: {seen}"] if others.keys() - set(TABLE_SUFFIXES) else []
    return Source("folder", root, tuple(records), (*notes, *more, *left_out), tuple(skipped))


def _by_folders(locators: Sequence[str], root: Path, frames: str) -> tuple[list[Record], list[str]]:
    """What the folders' names say of the images: split, then class or patient."""
    records = [record for locator in locators for record in _of_file(locator, root, frames)]
    folders = [PurePosixPath(record.locator).parts[:-1] for record in records]
    notes = [f"{len(records)} pages of {len(locators)} files"] if len(records) > len(locators) else []
    first = {parts[0] if parts else "" for parts in folders}
    splits = sorted(name for name in first if parse_split(name))
    if splits and (len(splits) == len(first) or "train" in map(parse_split, splits)):
        if strays := sorted(first.difference(splits)):
            raise UserError(
                f"{len(splits)} folders are splits (train, val or test), but there are also images "
                f"{'outside any folder' if strays == [''] else 'beside them'}. "
                "Move them into one of the splits, or out of the data folder."
            )
        records = [replace(record, split=parse_split(parts[0])) for record, parts in zip(records, folders, strict=True)]
        folders = [parts[1:] for parts in folders]
        notes.append("splits from the folders: " + _counts(record.split for record in records))
    names = {parts[0] if parts else "" for parts in folders}
    if "" not in names and are_patients(names, len(locators)):
        notes.append(f"{len(names)} folders taken as patients")
        return [replace(record, patient=parts[0]) for record, parts in zip(records, folders, strict=True)], notes
    if len(names) < 2:
        return records, notes
    if "" in names:
        return records, [*notes, "no classes from the folders: some images lie outside them"]
    records = [replace(record, labels={"label": parts[0]}) for record, parts in zip(records, folders, strict=True)]
    return records, [*notes, "classes from the folders: " + _counts(record.labels["label"] for record in records)]


def _of_file(locator: str, root: Path, frames: str) -> list[Record]:
    """A record, or one for each page that is wanted."""
    found = picture_pages(root / locator) if locator.lower().endswith(_PAGED) else [0]
    if len(found) == 1:
        return [Record(locator, "raster", found[0])]
    return [Record(locator, "raster", found[n], series=locator) for n in choose_frames(frames, len(found))]


def _counts(names: Iterable[str | None]) -> str:
    counted = Counter(map(str, names))
    more = f" and {len(counted) - 20} more" if len(counted) > 20 else ""
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())[:20]) + more
