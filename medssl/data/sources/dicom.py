"""A folder of DICOM files, at any depth, with or without a suffix or preamble. Every frame is a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from medssl.config import Limits
from medssl.data import contents, walk
from medssl.data.dicom import series
from medssl.data.dicom.selection import Selection
from medssl.data.folder_layout import understand_classes
from medssl.data.frame_policy import FramePolicy
from medssl.data.tables import JoinConfig, is_table, join_tables
from medssl.errors import UserError, count_reasons
from medssl.types import Record, Source


class Config(JoinConfig):
    name: str = "dicom"
    frames: FramePolicy = Field(
        default="all", description="Which frames of a file become images: all, first, middle or every_N, such as every_5."
    )
    derived: Literal["skip", "keep"] = Field(
        default="skip", description="Whether localizers, saved screens and images computed from others are kept."
    )
    burned_in: Literal["skip", "keep"] = Field(default="skip", description="Whether images are kept whose header says that they show text.")
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


def recognises(data: str) -> bool:
    """A folder most of whose images, by their content and weight, are DICOM."""
    root = Path(data).expanduser()
    return root.is_dir() and contents.kind_of_folder(root) == "dicom"


def build(config: Config, data: str) -> Source:
    """Lists the images below the folder `data` from their headers: patient, study, series, site, sex, age, view, scanner and modality.
    The slices of a series are in their order in space.

    Folders may name splits and classes. Tables in the folder, one level below and beside it are joined. Files that are no images are in
    `skipped`, with a reason. Raises UserError where there is no image, and for faulty tables that `config` describes.
    """
    root = walk.resolve_folder(data)
    found = list(walk.list_files(root))
    problems = [item for item in found if item.reason]
    tables = [item.locator for item in found if not item.reason and is_table(item.locator)]
    locators = [item.locator for item in found if not item.reason and not is_table(item.locator)]
    headers = series.list_frames(root, locators, config.limits, Selection(config.frames, config.derived, config.burned_in))
    skipped = (*problems, *headers.skipped)
    if not headers.records:
        reasons = f"; left out: {count_reasons(reason for _, reason, _ in skipped)}" if skipped else ""
        raise UserError(
            "\n".join([f"There is no DICOM image below {data} that can be used{reasons}. Check --data.", *_notes_on_choices(skipped)])
        )
    records, folder_notes = _by_folders(headers.records)
    joined = join_tables(records, root, config, tables, headers.names)
    no_dicom = (locator for locator, reason, _ in headers.skipped if reason == "not_dicom")
    left_out = contents.describe_others(no_dicom, "files that are no DICOM")
    notes = (*headers.notes, *_notes_on_choices(skipped), *folder_notes, *joined.notes, *left_out)
    return Source("dicom", root, tuple(joined.records), notes, skipped, joined.error)


def _by_folders(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The records with the splits and classes that their folders name, and notes for a person."""
    layout = understand_classes([record.locator for record in records], [record.patient or record.study for record in records])
    found = zip(records, layout.splits, layout.classes, strict=True)
    return [
        replace(record, split=split, labels={"label": name} if name else record.labels) if split or name else record
        for record, split, name in found
    ], layout.notes


def _notes_on_choices(skipped: Sequence[tuple[str, str, str]]) -> list[str]:
    """For each option that leaves out images: how many, and the setting that keeps them."""
    counts = Counter(reason for _, reason, _ in skipped)
    choices = {
        "not_primary": "localizers, saved screens and images derived from others left out; to take them: --set data.source.derived=keep",
        "burned_in": "images that show text by their header left out; to take them: --set data.source.burned_in=keep",
    }
    return [f"{counts[reason]} {sentence}" for reason, sentence in choices.items() if counts[reason]]
