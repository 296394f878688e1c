"""A CSV or Parquet file that lists the images, one a row, with what is known of each: label, patient, study, site, split."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from medssl.config import Limits
from medssl.data.sources import _dicom_headers
from medssl.data.sources._columns import TableConfig
from medssl.data.sources._tables import SUFFIXES, located, merged, read
from medssl.errors import UserError
from medssl.types import Record, Source

_DICOM_SUFFIXES = ("", ".dcm", ".dicom")


class Config(TableConfig):
    name: str = "manifest"
    limits: Limits = Limits()


def recognises(data: str) -> bool:
    """A .csv or .parquet file."""
    file = Path(data).expanduser()
    return file.suffix.lower() in SUFFIXES and file.is_file()


def build(config: Config, data: str) -> Source:
    """Lists the images that the table `data` names, by paths relative to its folder, which none may leave.

    Files with the suffix .dcm or .dicom, or without one, are DICOM, every frame an image, their headers giving what the table does
    not say; all others are raster images. Raises UserError naming the rows that are wrong.
    """
    file = Path(data).expanduser()
    if not file.is_file():
        raise UserError(f"The manifest {data} does not exist. Check --data; current folder: {Path.cwd()}.")
    root = file.parent.resolve()
    rows = located(read(file, config), file, root)
    dicoms = [locator for locator in rows if PurePosixPath(locator).suffix.lower() in _DICOM_SUFFIXES]
    frames = _dicom_headers.listed(root, dicoms, config.limits)
    by_file = {record.locator: [] for record in frames.records}
    for record in frames.records:
        by_file[record.locator].append(record)
    is_dicom = set(dicoms)
    records = tuple(
        merged(record, row.says)
        for locator, row in rows.items()
        for record in (by_file.get(locator, ()) if locator in is_dicom else (Record(locator, "raster"),))
    )
    if not records:
        raise UserError(f"{file} lists no usable image; the first left out: {frames.skipped[0]}. Correct the manifest.")
    notes = (f"{len(records)} images listed by {file.name}", *frames.notes)
    return Source("manifest", root, records, notes, frames.skipped)
