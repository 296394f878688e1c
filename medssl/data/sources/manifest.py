"""A CSV or Parquet file that lists the images, one a row, with what is known of each: label, patient, study, site, split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from medssl.config import Limits
from medssl.data import walk
from medssl.data.dicom import series
from medssl.data.formats import nifti_header
from medssl.data.sources import nifti
from medssl.data.tables import SUFFIXES, TableConfig, locate_rows, merge_row, read_table
from medssl.errors import ReadError, UserError, count_reasons
from medssl.types import Record, Source

_DICOM_SUFFIXES = ("", ".dcm", ".dicom")
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
Listed = tuple[Sequence[Record], Sequence[str], Sequence[tuple[str, str, str]]]


class Config(TableConfig):
    """`missing`: whether rows whose file is not there are an error, or left out, as where only some of a data set's archives were
    fetched."""

    name: str = "manifest"
    missing: Literal["error", "skip"] = "error"
    limits: Limits = Limits()


def recognises(data: str) -> bool:
    """A .csv or .parquet file."""
    file = Path(data).expanduser()
    return file.suffix.lower() in SUFFIXES and file.is_file()


def build(config: Config, data: str) -> Source:
    """Lists the images that the table `data` names: by paths relative to its folder, which none may leave, or by names that one file
    below it has.

    Files with the suffix .dcm or .dicom, or without one, are DICOM, every frame an image, their headers giving what the table does
    not say; of .nii and .nii.gz files every slice is one; all others are raster images. The tables of NIH ChestX-ray14 and CheXpert
    are understood as they are published. Raises UserError naming the rows that are wrong.
    """
    file = Path(data).expanduser()
    if not file.is_file():
        raise UserError(f"The manifest {data} does not exist. Check --data; current folder: {Path.cwd()}.")
    root = file.parent.resolve()
    table = read_table(file, config, data)
    rows = locate_rows(
        table, root, lambda: [found.locator for found in walk.list_files(root) if not found.reason], config.missing == "skip"
    )
    records, notes, skipped = list_images(root, list(rows), config.limits)
    if not records:
        reasons = count_reasons(reason for _, reason, _ in skipped)
        raise UserError(f"{data} lists no usable image ({reasons or 'none of its files is there'}). Correct the manifest.")
    notes = [f"{len(records)} images listed by the manifest", *notes]
    if len(rows) < len(table.rows):
        notes.append(f"{len(table.rows) - len(rows)} of {len(table.rows)} rows left out: their files are not there")
    return Source("manifest", root, tuple(merge_row(record, rows[record.locator]) for record in records), tuple(notes), tuple(skipped))


def list_images(root: Path, locators: Sequence[str], limits: Limits) -> Listed:
    """The images in these files, in the order of the files: records, notes, and what was skipped."""
    niftis = [locator for locator in locators if locator.lower().endswith(_NIFTI_SUFFIXES)]
    dicoms = [locator for locator in locators if PurePosixPath(locator).suffix.lower() in _DICOM_SUFFIXES]
    others = set(locators) - {*niftis, *dicoms}
    slices, faulty = _slices(root, niftis, limits)
    frames = series.list_frames(root, dicoms, limits)
    by_file = defaultdict(list, {locator: [Record(locator, "raster")] for locator in others})
    for record in (*frames.records, *slices):
        by_file[record.locator].append(record)
    return [record for locator in locators for record in by_file[locator]], frames.notes, [*frames.skipped, *faulty]


def _slices(root: Path, locators: Sequence[str], limits: Limits) -> tuple[list[Record], list[tuple[str, str, str]]]:
    """Every slice of every volume of NIfTI files, and the files that are none."""
    records, skipped = [], []
    for locator in locators:
        try:
            header = nifti_header.read(root / locator, limits)
        except ReadError as error:
            skipped.append((locator, error.reason, error.detail))
            continue
        records += nifti.slices(Record(locator, "nifti"), header, header.volumes, "all")
    return records, skipped
