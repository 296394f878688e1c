"""A folder of raster images: in one folder, in class folders or in train/val/test folders, with or without a table of labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydantic import Field

from medssl.data import walk
from medssl.data.formats import picture_pages
from medssl.data.frame_policy import FramePolicy, choose_frames
from medssl.data.tables import SUFFIXES as TABLE_SUFFIXES
from medssl.data.tables import JoinConfig, join_table, parse_split
from medssl.data.walk import are_patients, name_a_person
from medssl.errors import UserError
from medssl.types import Record, Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_SUFFIXES_WITH_PAGES = (".tif", ".tiff")
# Suffixes of other files that messages may name. Any other suffix may be part of a person's name.
_NAMED_SUFFIXES = re.compile(
    r"\.(csv|dcm|gif|gz|hdr|img|ini|jp2|json|log|md|mha|mhd|nii|npy|npz|nrrd|parquet|pdf|svs|tar|tsv|txt|webp|xlsx|xml|yaml|zip)"
)


class Config(JoinConfig):
    name: str = "folder"
    frames: FramePolicy = Field(
        default="all", description="Which pages of a TIFF file become images: all, first, middle or every_N, such as every_5."
    )


def recognises(data: str) -> bool:
    """Any folder; `build` raises UserError where it holds no images."""
    return Path(data).expanduser().is_dir()


def build(config: Config, data: str) -> Source:
    """Lists the images below the folder `data` by their suffixes. TIFF files are opened to count their pages, other files are not opened.

    First-level folders are classes (label "label") where there are several and every image lies in one. Folders named train, val and test
    are splits; the classes are then one level below. Folders named like patient00012, DOE^JANE or 20240131, or far too many folders for
    classes, are patients. A labels.csv, or the only CSV or Parquet file beside the images, is joined by path. Raises UserError where there
    is no image, and for a faulty table that `config` describes.
    """
    root = walk.resolve_folder(data)
    locators, skipped, other_suffixes = [], [], Counter[str]()
    for file in walk.list_files(root):
        suffix = PurePosixPath(file.locator).suffix.lower()
        if file.reason:
            skipped.append(file)
        elif suffix in SUFFIXES:
            locators.append(file.locator)
        else:
            other_suffixes[suffix if _NAMED_SUFFIXES.fullmatch(suffix) else "of other kinds"] += 1
    counted_others = ", ".join(f"{count} {suffix}" for suffix, count in other_suffixes.most_common(8)) or "no files"
    if not locators:
        problems = f", {len(skipped)} that cannot be opened ({_format_counts(item.reason for item in skipped)})" if skipped else ""
        raise UserError(
            f"There is no image below {data}; it has {counted_others}{problems}. medssl reads PNG, JPEG, TIFF and BMP files, "
            "folders of DICOM or NIfTI files, CSV or Parquet tables, and MedMNIST .npz files."
        )
    records, notes = _by_folders(locators, root, config.frames)
    joined = join_table(records, root, config, [item.locator for item in skipped])
    left_out = [f"other files left out: {counted_others}"] if other_suffixes.keys() - set(TABLE_SUFFIXES) else []
    return Source("folder", root, tuple(joined.records), (*notes, *joined.notes, *left_out), tuple(skipped), joined.error)


def _by_folders(locators: Sequence[str], root: Path, frames: str) -> tuple[list[Record], list[str]]:
    """A record for each image, with the split and the class or patient that its folders name, and notes for a person."""
    records = [record for locator in locators for record in _records_of_file(locator, root, frames)]
    folders = [PurePosixPath(record.locator).parts[:-1] for record in records]
    notes = [f"{len(records)} pages of {len(locators)} files"] if len(records) > len(locators) else []
    first_level = {parts[0] if parts else "" for parts in folders}
    splits = sorted(name for name in first_level if parse_split(name))
    if splits and (len(splits) == len(first_level) or "train" in map(parse_split, splits)):
        if outside_splits := sorted(first_level.difference(splits)):
            raise UserError(
                f"{len(splits)} folders are splits (train, val or test), but there are also images "
                f"{'outside any folder' if outside_splits == [''] else 'beside them'}. "
                "Move them into one of the splits, or out of the data folder."
            )
        records = [replace(record, split=parse_split(parts[0])) for record, parts in zip(records, folders, strict=True)]
        folders = [parts[1:] for parts in folders]
        notes.append("splits from the folders: " + _format_counts(record.split for record in records))
    names = {parts[0] if parts else "" for parts in folders}
    if "" not in names and are_patients(names, len(locators)):
        notes.append(f"{len(names)} folders taken as patients")
        return [replace(record, patient=parts[0], patient_from="names") for record, parts in zip(records, folders, strict=True)], notes
    if len(names) < 2:
        return records, notes
    if "" in names:
        return records, [*notes, "no classes from the folders: some images are outside them"]
    if name_a_person(names):
        return records, [
            *notes,
            "no classes and no patients from the folders: too few or not all of them are named like a person",
        ]
    records = [replace(record, labels={"label": parts[0]}) for record, parts in zip(records, folders, strict=True)]
    return records, [*notes, "classes from the folders: " + _format_counts(record.labels["label"] for record in records)]


def _records_of_file(locator: str, root: Path, frames: str) -> list[Record]:
    """A record for the file, or for each of its pages that the policy `frames` selects."""
    pages = picture_pages(root / locator) if locator.lower().endswith(_SUFFIXES_WITH_PAGES) else [0]
    if len(pages) == 1:
        return [Record(locator, "raster", pages[0])]
    return [Record(locator, "raster", pages[n], series=locator) for n in choose_frames(frames, len(pages))]


def _format_counts(names: Iterable[str | None]) -> str:
    counted = Counter(map(str, names))
    more = f" and {len(counted) - 20} more" if len(counted) > 20 else ""
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())[:20]) + more
