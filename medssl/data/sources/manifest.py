"""A manifest: a CSV or Parquet file with one image in each row, and its label, patient, study, site and split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from medssl.config import Limits
from medssl.data import contents, walk
from medssl.data.dicom import series
from medssl.data.formats import nifti_header
from medssl.data.formats.parquet_images import image_column
from medssl.data.sources import nifti
from medssl.data.tables import SUFFIXES, TableConfig, locate_rows, merge_row, read_table
from medssl.errors import ReadError, UserError, count_reasons
from medssl.types import Record, Source

_DICOM_SUFFIXES = ("", ".dcm", ".dicom")
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
Listing = tuple[Sequence[Record], Sequence[str], Sequence[tuple[str, str, str]]]  # records, notes, skipped files


class Config(TableConfig):
    name: str = "manifest"
    missing: Literal["error", "skip"] = Field(
        default="error",
        description="Whether rows whose file does not exist are an error or are left out, as for data that was downloaded in part.",
    )
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


def recognises(data: str) -> bool:
    """A .csv or .parquet file, but no Parquet file that holds the images themselves."""
    file = Path(data).expanduser()
    return file.suffix.lower() in SUFFIXES and file.is_file() and not (file.suffix.lower() == ".parquet" and image_column(file))


def build(config: Config, data: str) -> Source:
    """Lists the images that the table `data` names: by paths relative to its folder, inside it, or by file names that occur once below it.

    The content of a file tells its kind. Every frame of a DICOM file is an image, and the headers fill in what the table does not state.
    Every slice of a NIfTI file is an image. All other files are raster images. The published tables of NIH
    ChestX-ray14 and CheXpert can be used unchanged. Raises UserError that names the faulty rows.
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


def list_images(root: Path, locators: Sequence[str], limits: Limits) -> Listing:
    """The records of the images in these files, in the order of the files; notes; and the files that were skipped."""
    kinds = contents.kinds_of_files(root, locators)
    niftis = [locator for locator in locators if (kinds[locator] or _kind_by_suffix(locator)) == "nifti"]
    dicoms = [locator for locator in locators if (kinds[locator] or _kind_by_suffix(locator)) == "dicom"]
    others = set(locators) - {*niftis, *dicoms}
    slices, faulty = _list_slices(root, niftis, limits)
    frames = series.list_frames(root, dicoms, limits)
    records_of = defaultdict(list, {locator: [Record(locator, "raster")] for locator in others})
    for record in (*frames.records, *slices):
        records_of[record.locator].append(record)
    return [record for locator in locators for record in records_of[locator]], frames.notes, [*frames.skipped, *faulty]


def _kind_by_suffix(locator: str) -> str:
    """The kind that the name of a file promises whose content is of no kind; its reader then states the fault."""
    if locator.lower().endswith(_NIFTI_SUFFIXES):
        return "nifti"
    return "dicom" if PurePosixPath(locator).suffix.lower() in _DICOM_SUFFIXES else "raster"


def _list_slices(root: Path, locators: Sequence[str], limits: Limits) -> tuple[list[Record], list[tuple[str, str, str]]]:
    """A record for every slice of every volume in NIfTI files, and the files that cannot be read as (locator, reason, detail)."""
    records, skipped = [], []
    for locator in locators:
        try:
            header = nifti_header.read(root / locator, limits)
        except ReadError as error:
            skipped.append((locator, error.reason, error.detail))
            continue
        records += nifti.slices(Record(locator, "nifti"), header, header.volumes, "all")
    return records, skipped
