"""A manifest: a CSV, TSV or Parquet file with one image in each row, and its label, patient, study, site and split."""

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
from medssl.data.tables import TableConfig, is_table, tidy_labels
from medssl.data.tables.columns import role_of_name
from medssl.data.tables.file_index import FileIndex
from medssl.data.tables.linking import Known, missing_key
from medssl.data.tables.reading import Table, format_rows, read_table, refuse_control_characters
from medssl.data.tables.resolving import Understanding, describe, fill_published, understand_tables
from medssl.data.walk import RootFolder
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
    """A table: .csv, .tsv (also .gz) or .parquet, but no Parquet file that holds the images themselves."""
    file = Path(data).expanduser()
    return is_table(file.name) and file.is_file() and not (file.suffix.lower() == ".parquet" and image_column(file))


def build(config: Config, data: str) -> Source:
    """Lists the images that the table `data` names: by paths relative to its folder, inside it, or by names or IDs of files below it.

    The content of a file tells its kind. Every frame of a DICOM file is an image, and the headers fill in what the table does not state.
    Every slice of a NIfTI file is an image. Tables are understood as `understand_tables` says. Raises UserError that names the faulty rows.
    """
    file = Path(data).expanduser()
    if not file.is_file():
        raise UserError(f"The manifest {data} does not exist. Check --data; current folder: {Path.cwd()}.")
    root = file.parent.resolve()
    table = read_table(file, data, lambda cell: (root / cell).is_file() if len(cell) < 200 else False)
    index, outside = _index(table, root, config)
    understanding = understand_tables([table], Known(index, ()), config)
    _refuse_missing(table, understanding, outside, config.missing == "skip")
    locators = sorted(understanding.described, key=_first_row(understanding).__getitem__)
    listed, notes, skipped = list_images(root, locators, config.limits)
    if not listed:
        reasons = count_reasons(reason for _, reason, _ in skipped)
        raise UserError(f"{data} lists no usable image ({reasons or 'none of its files is there'}). Correct the manifest.")
    records, label_notes = tidy_labels(fill_published(understanding, listed))
    notes = [f"{len(records)} images listed by the manifest", *notes]
    left_out = sum(len(link.unmatched) for link in understanding.links)
    if left_out:
        notes.append(f"{left_out} of {len(table.rows)} rows left out: their files are not there")
    notes += [*describe(understanding, len(locators)), *label_notes]
    return Source("manifest", root, tuple(records), tuple(notes), tuple(skipped))


def _index(table: Table, root: Path, config: Config) -> tuple[FileIndex, set[str]]:
    """The files that the table may name, and the cells of a column of paths that lead out of the root. The files are those of a column
    whose cells are all paths that exist; where there is no such column, all below the root."""
    folder, outside = RootFolder(root), set[str]()
    columns = [config.columns["path"]] if "path" in config.columns else [name for name in table.header if role_of_name(name) == "path"]
    for column in columns if table.headed else table.header:
        cells = dict.fromkeys(table.column(column)) if column in table.header else {}
        refuse_control_characters(table, table.column(column) if cells else (), "path")
        found, leading_out = dict[str, None](), set[str]()
        for cell in cells:
            try:
                if (locator := folder.locator(cell)) is None:
                    break
                found[locator] = None
            except ValueError:
                leading_out.add(cell)
        else:
            if cells and not leading_out:
                return FileIndex(root, list(found)), outside
        outside |= leading_out
    return FileIndex(root, [found.locator for found in walk.list_files(root) if not found.reason]), outside


def _refuse_missing(table: Table, understanding: Understanding, outside: set[str], skip_missing: bool) -> None:
    """Raises UserError for rows without a file, unless they are to be left out, and for files outside the root."""
    unmatched = {row for link in understanding.links for row in link.unmatched} if understanding.links else set(range(len(table.rows)))
    paths = [table.column(name) for name in table.header if role_of_name(name) == "path" or not table.headed]
    beyond = [row for row in sorted(unmatched) if any(cells[row] in outside for cells in paths)]
    if beyond:
        raise UserError(
            f"{table.name}, row {table.rows[beyond[0]]}: the file is outside the table's folder (outside_root). Put the table into a "
            "folder above all its images, or name that folder with --data and the table with --set data.source.table=FILE."
        )
    if empty := [row for row in sorted(unmatched) if any(cells[row] == "" for cells in paths)]:
        raise UserError(f"{table.name}, row {table.rows[empty[0]]}: the path is empty. Fill it in or delete the row.")
    if understanding.unused and not any(paths):
        raise UserError(missing_key(table))
    if unmatched and not skip_missing:
        raise UserError(
            f"{table.name} lists {len(unmatched)} files that are not there. Correct or delete these rows, or leave them out with --set "
            f"data.source.missing=skip: {format_rows([table.rows[row] for row in sorted(unmatched)])}."
        )


def _first_row(understanding: Understanding) -> dict[str, int]:
    """The first row of each file, for the order of the images."""
    return {file: rows[0] for link in understanding.links for file, rows in link.rows_of.items()}


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
