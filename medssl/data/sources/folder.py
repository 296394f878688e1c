"""A folder of raster images: in one folder, in class folders or in train/val/test folders, with or without a table of labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydantic import Field

from medssl.data import walk
from medssl.data.folder_layout import format_counts, understand_folders
from medssl.data.formats import picture_pages
from medssl.data.frame_policy import FramePolicy, choose_frames
from medssl.data.tables import JoinConfig, is_table, join_tables, refuse_images_in_tables
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

    Folders are splits, classes (label "label") and patients as `understand_folders` finds them. Tables in the folder, one level below and
    beside it are joined. Raises UserError where there is no image, and for faulty tables that `config` describes.
    """
    root = walk.resolve_folder(data)
    locators, tables, skipped, other_suffixes = [], [], [], Counter[str]()
    for file in walk.list_files(root):
        suffix = PurePosixPath(file.locator).suffix.lower()
        if file.reason:
            skipped.append(file)
        elif is_table(file.locator):
            tables.append(file.locator)
        elif suffix in SUFFIXES:
            locators.append(file.locator)
        else:
            other_suffixes[suffix if _NAMED_SUFFIXES.fullmatch(suffix) else "of other kinds"] += 1
    counted_others = ", ".join(f"{count} {suffix}" for suffix, count in other_suffixes.most_common(8)) or "no files"
    if not locators:
        refuse_images_in_tables(root, tables)
        other_suffixes += Counter(PurePosixPath(file).suffix.lower() for file in tables)
        counted_others = ", ".join(f"{count} {suffix}" for suffix, count in other_suffixes.most_common(8)) or "no files"
        problems = f", {len(skipped)} that cannot be opened ({format_counts(item.reason for item in skipped)})" if skipped else ""
        raise UserError(
            f"There is no image below {data}; it has {counted_others}{problems}. medssl reads PNG, JPEG, TIFF and BMP files, "
            "folders of DICOM or NIfTI files, CSV or Parquet tables, and MedMNIST .npz files."
        )
    records, notes = _by_folders(locators, root, config.frames)
    joined = join_tables(records, root, config, tables)
    left_out = [f"other files left out: {counted_others}"] if other_suffixes else []
    return Source("folder", root, tuple(joined.records), (*notes, *joined.notes, *left_out), tuple(skipped), joined.error)


def _by_folders(locators: Sequence[str], root: Path, frames: str) -> tuple[list[Record], list[str]]:
    """A record for each image, with the split, the class and the patient that its folders name, and notes for a person."""
    layout = understand_folders(locators)
    records = []
    for locator, split, name, patient in zip(locators, layout.splits, layout.classes, layout.patients, strict=True):
        known = {
            "split": split,
            "patient": patient,
            "patient_from": "names" if patient else "data",
            **({"labels": {"label": name}} if name else {}),
        }
        records += [replace(record, **known) for record in _records_of_file(locator, root, frames)]
    pages = [f"{len(records)} pages of {len(locators)} files"] if len(records) > len(locators) else []
    return records, [*pages, *layout.notes]


def _records_of_file(locator: str, root: Path, frames: str) -> list[Record]:
    """A record for the file, or for each of its pages that the policy `frames` selects."""
    pages = picture_pages(root / locator) if locator.lower().endswith(_SUFFIXES_WITH_PAGES) else [0]
    if len(pages) == 1:
        return [Record(locator, "raster", pages[0])]
    return [Record(locator, "raster", pages[n], series=locator) for n in choose_frames(frames, len(pages))]
