"""A folder of DICOM files, at any depth, with or without a suffix or preamble. Every frame is a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from medssl.config import Limits
from medssl.data import contents, walk
from medssl.data.dicom import series
from medssl.data.dicom.selection import Selection
from medssl.data.frame_policy import FramePolicy
from medssl.data.tables import SUFFIXES, JoinConfig, join_table
from medssl.errors import UserError, count_reasons
from medssl.types import Source


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

    A labels.csv, or the only CSV or Parquet file in the folder, is joined by path. Files that are no images are in `skipped`, with a
    reason. Raises UserError where there is no image, and for a faulty table that `config` describes.
    """
    root = walk.resolve_folder(data)
    found = list(walk.list_files(root))
    problems = [item for item in found if item.reason]
    locators = [item.locator for item in found if not item.reason and PurePosixPath(item.locator).suffix.lower() not in SUFFIXES]
    headers = series.list_frames(root, locators, config.limits, Selection(config.frames, config.derived, config.burned_in))
    skipped = (*problems, *headers.skipped)
    if not headers.records:
        reasons = f"; left out: {count_reasons(reason for _, reason, _ in skipped)}" if skipped else ""
        raise UserError(
            "\n".join([f"There is no DICOM image below {data} that can be used{reasons}. Check --data.", *_notes_on_choices(skipped)])
        )
    joined = join_table(headers.records, root, config, [locator for locator, _, _ in skipped])
    others = contents.count_suffixes(locator for locator, reason, _ in headers.skipped if reason == "not_dicom")
    left_out = [f"files that are no DICOM left out: {others}"] if others else []
    notes = (*headers.notes, *_notes_on_choices(skipped), *joined.notes, *left_out)
    return Source("dicom", root, tuple(joined.records), notes, skipped, joined.error)


def _notes_on_choices(skipped: Sequence[tuple[str, str, str]]) -> list[str]:
    """For each option that leaves out images: how many, and the setting that keeps them."""
    counts = Counter(reason for _, reason, _ in skipped)
    choices = {
        "not_primary": "localizers, saved screens and images derived from others left out; to take them: --set data.source.derived=keep",
        "burned_in": "images that show text by their header left out; to take them: --set data.source.burned_in=keep",
    }
    return [f"{counts[reason]} {sentence}" for reason, sentence in choices.items() if counts[reason]]
