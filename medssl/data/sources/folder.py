"""A folder of raster images: in one folder, in class folders or in train/val/test folders, with or without a table of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydantic import Field

from medssl.data import contents, not_samples, walk
from medssl.data.formats import picture_pages
from medssl.data.frame_policy import FramePolicy, choose_frames
from medssl.data.not_samples import MasksConfig
from medssl.data.tables import SUFFIXES as TABLE_SUFFIXES
from medssl.data.tables import JoinConfig, join_table, parse_split
from medssl.data.walk import are_patients, name_a_person
from medssl.errors import UserError
from medssl.types import Record, Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_ONE_PAGE = (".png", ".jpg", ".jpeg", ".bmp")


class Config(JoinConfig, MasksConfig):
    name: str = "folder"
    frames: FramePolicy = Field(
        default="all", description="Which pages of a TIFF file become images: all, first, middle or every_N, such as every_5."
    )


def recognises(data: str) -> bool:
    """Any folder; `build` raises UserError where it holds no images."""
    return Path(data).expanduser().is_dir()


def build(config: Config, data: str) -> Source:
    """Lists the images below the folder `data`: by their suffixes, and files of other suffixes by their content. Masks and other files that
    are no samples (`not_samples`) are left out.

    First-level folders are classes (label "label") where there are several and every image lies in one. Folders named train, val and test
    are splits; the classes are then one level below. Folders named like patient00012, DOE^JANE or 20240131, or far too many folders for
    classes, are patients. A labels.csv, or the only CSV or Parquet file beside the images, is joined by path. Raises UserError where there
    is no image, and for a faulty table that `config` describes.
    """
    root = walk.resolve_folder(data)
    files = list(walk.list_files(root))
    skipped = [file for file in files if file.reason]
    pictures, others = _pictures(root, [file.locator for file in files if not file.reason])
    no_samples = not_samples.find(pictures, lambda locator: not_samples.raster_look(root / locator), config.masks)
    locators = [locator for locator in pictures if locator not in no_samples.files]
    counted_others = contents.count_suffixes(others) or "no files"
    if not locators:
        problems = f", {len(skipped)} that cannot be opened ({_format_counts(item.reason for item in skipped)})" if skipped else ""
        raise UserError(
            f"There is no image below {data}; it has {counted_others}{problems}. medssl reads PNG, JPEG, TIFF, BMP, GIF, PGM, PPM, WebP "
            "and JPEG 2000 files, folders of DICOM or NIfTI files, CSV or Parquet tables, and MedMNIST .npz files."
        )
    records, notes = _by_folders(locators, root, config.frames)
    left_out = (*skipped, *no_samples.skipped)
    joined = join_table(records, root, config, [locator for locator, _, _ in left_out])
    others_note = [f"other files left out: {counted_others}"] if any(not name.lower().endswith(TABLE_SUFFIXES) for name in others) else []
    notes = (*notes, *no_samples.notes, *joined.notes, *others_note)
    return Source("folder", root, tuple(joined.records), notes, left_out, joined.error)


def _pictures(root: Path, locators: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files that are pictures by their suffix, or by their content where they have another one; and all other files."""
    kinds = contents.kinds_of_files(root, [locator for locator in locators if not locator.lower().endswith((*SUFFIXES, *TABLE_SUFFIXES))])
    pictures = [locator for locator in locators if locator.lower().endswith(SUFFIXES) or kinds.get(locator) == "raster"]
    return pictures, sorted(set(locators).difference(pictures))


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
    pages = [0] if locator.lower().endswith(_ONE_PAGE) else picture_pages(root / locator)
    if len(pages) == 1:
        return [Record(locator, "raster", pages[0])]
    return [Record(locator, "raster", pages[n], series=locator) for n in choose_frames(frames, len(pages))]


def _format_counts(names: Iterable[str | None]) -> str:
    counted = Counter(map(str, names))
    more = f" and {len(counted) - 20} more" if len(counted) > 20 else ""
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())[:20]) + more
