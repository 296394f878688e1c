"""A folder of raster images: in one folder, in class folders or in train/val/test folders, with or without a table of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from medssl.data import contents, not_samples, walk
from medssl.data.folder_layout import FoldersConfig, Meaning, format_counts, understand_folders
from medssl.data.formats import picture_pages
from medssl.data.frame_policy import FramePolicy, choose_frames
from medssl.data.not_samples import MasksConfig
from medssl.data.tables import JoinConfig, is_table, join_tables, refuse_images_in_tables
from medssl.errors import UserError
from medssl.types import Record, Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_ONE_PAGE = (".png", ".jpg", ".jpeg", ".bmp")


class Config(JoinConfig, MasksConfig, FoldersConfig):
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

    Folders are splits, classes (label "label") and patients as `config.folders` says or `understand_folders` finds them. Tables in the
    folder, one level below and beside it are joined. Raises UserError where there is no image, and for faulty tables that `config`
    describes.
    """
    root = walk.resolve_folder(data)
    files = list(walk.list_files(root))
    skipped = [file for file in files if file.reason]
    pictures, others = _pictures(root, [file.locator for file in files if not file.reason])
    no_samples = not_samples.find(pictures, lambda locator: not_samples.raster_look(root / locator), config.masks)
    locators = [locator for locator in pictures if locator not in no_samples.files]
    tables = [locator for locator in others if is_table(locator)]
    if not locators:
        refuse_images_in_tables(root, tables)
        counted = contents.count_suffixes(others) or "no files"
        problems = f", {len(skipped)} that cannot be opened ({format_counts(item.reason for item in skipped)})" if skipped else ""
        raise UserError(
            f"There is no image below {data}; it has {counted}{problems}. medssl reads PNG, JPEG, TIFF, BMP, GIF, PGM, PPM, WebP "
            "and JPEG 2000 files, folders of DICOM or NIfTI files, CSV or Parquet tables, and MedMNIST .npz files."
        )
    records, notes = _by_folders(locators, root, config.frames, config.folders)
    left_out = (*skipped, *no_samples.skipped)
    joined = join_tables(records, root, config, tables)
    left = contents.describe_others((locator for locator in others if not is_table(locator)), "other files")
    notes = (*notes, *no_samples.notes, *joined.notes, *left)
    return Source("folder", root, tuple(joined.records), notes, left_out, joined.error)


def _pictures(root: Path, locators: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files that are pictures by their suffix, or by their content where they have another one; and all other files."""
    unsure = [locator for locator in locators if not locator.lower().endswith(SUFFIXES) and not is_table(locator)]
    kinds = contents.kinds_of_files(root, unsure)
    pictures = [locator for locator in locators if locator.lower().endswith(SUFFIXES) or kinds.get(locator) == "raster"]
    return pictures, sorted(set(locators).difference(pictures))


def _by_folders(locators: Sequence[str], root: Path, frames: str, meaning: Meaning) -> tuple[list[Record], list[str]]:
    """A record for each image, with the split, the class and the patient that its folders name, and notes for a person."""
    layout = understand_folders(locators, meaning)
    records = []
    for locator, split, name, patient in zip(locators, layout.splits, layout.classes, layout.patients, strict=True):
        known = {
            "split": split,
            "patient": patient,
            "patient_from": "names" if patient and meaning != "patients" else "data",
            **({"labels": {"label": name}} if name else {}),
        }
        records += [replace(record, **known) for record in _records_of_file(locator, root, frames)]
    pages = [f"{len(records)} pages of {len(locators)} files"] if len(records) > len(locators) else []
    return records, [*pages, *layout.notes]


def _records_of_file(locator: str, root: Path, frames: str) -> list[Record]:
    """A record for the file, or for each of its pages that the policy `frames` selects."""
    pages = [0] if locator.lower().endswith(_ONE_PAGE) else picture_pages(root / locator)
    if len(pages) == 1:
        return [Record(locator, "raster", pages[0])]
    return [Record(locator, "raster", pages[n], series=locator) for n in choose_frames(frames, len(pages))]
