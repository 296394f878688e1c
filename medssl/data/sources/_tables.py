"""Tables beside images: CSV and Parquet read as text, so that the patient 00123 stays 00123 and a label NA stays NA."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow
from pyarrow import parquet

from medssl.data.sources._columns import Columns, TableConfig, split_named, understood
from medssl.data.sources._walk import Inside
from medssl.errors import UserError
from medssl.types import Record

SUFFIXES = (".csv", ".parquet")
_EXTRA = ("sex", "age", "view", "scanner")


class Row(NamedTuple):
    """One row: its number as a spreadsheet counts (the header is row 1), and what it says, the locator as it stands in the cell."""

    number: int
    says: Record


def read(file: Path, config: TableConfig) -> list[Row]:
    """The rows of a CSV or Parquet file whose columns name the images.

    Raises UserError that names file and row for anything that cannot be understood without guessing: another separator or encoding,
    rows of another width, columns that stand twice, no column or cell for the path, an empty patient, an unknown split.
    """
    try:
        cells = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)
        _, header = next(cells, (1, []))
        columns = _checked_columns(header, config, file)
        rows = [Row(number, _record(values, columns, f"{file}, row {number}")) for number, values in cells]
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}. Is it a CSV (UTF-8, commas) or Parquet file?") from None
    if not rows:
        raise UserError(f"{file} has a header but no rows. List one image a row.")
    return rows


def located(rows: Sequence[Row], file: Path, root: Path, known: Collection[str] = ()) -> dict[str, Row]:
    """The rows by the locator of the file that each names: by its path relative to `root`, or by a bare name that only one of the
    `known` locators ends in. Raises UserError for rows that name a file outside the root, a missing one, or one twice."""
    inside, by_name = Inside(root), defaultdict(list)
    for locator in known:
        by_name[locator.rpartition("/")[2]].append(locator)
    result: dict[str, Row] = {}
    missing, twice = [], []
    for row in rows:
        cell = row.says.locator
        namesakes = by_name.get(cell, [])
        try:
            locator = namesakes[0] if len(namesakes) == 1 else inside.locator(cell)
        except ValueError:
            raise UserError(
                f"{file}, row {row.number}: {cell!r} lies outside {root} (outside_root). Put the table into a folder above all its images."
            ) from None
        if locator is None:
            missing.append(f"row {row.number}: {cell}" + (f" (could be any of {len(namesakes)} files)" if namesakes else ""))
        elif locator in result:
            twice.append(f"row {row.number}: {cell} (also row {result[locator].number})")
        else:
            result[locator] = row
    for wrong, problem in (
        (missing, "files that are not there. Correct or delete these rows"),
        (twice, "files twice. Keep one row for each"),
    ):
        if wrong:
            raise UserError(f"{file} lists {len(wrong)} {problem}:{first_few(wrong)}")
    return result


def merged(record: Record, says: Record) -> Record:
    """`record` with what a row says laid over it."""
    return replace(
        record,
        labels={**record.labels, **says.labels},
        patient=says.patient or record.patient,
        study=says.study or record.study,
        site=says.site or record.site,
        split=says.split or record.split,
        extra={**record.extra, **says.extra},
    )


def first_few(items: Sequence[str]) -> str:
    """Up to 20 items, one a line, and how many more there are."""
    more = [f"... and {len(items) - 20} more"] if len(items) > 20 else []
    return "".join(f"\n  {item}" for item in [*items[:20], *more])


def _checked_columns(header: Sequence[str], config: TableConfig, file: Path) -> Columns:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise UserError(f"{file}, row 1: the column {twice[0]!r} stands twice. Keep one, or give them different names.")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise UserError(f"{file}, row 1: the columns seem to be separated by semicolons or tabs. Save it with commas.")
    columns = understood(header, config, file)
    if "path" not in columns.roles:
        raise UserError(
            f"{file}: no column names the images; it has {', '.join(map(repr, header)) or 'none'}. Call one 'path', "
            "or say which with --set data.source.columns.path=NAME"
        )
    return columns


def _csv(file: Path) -> Iterator[tuple[int, list[str]]]:
    raw = file.read_bytes()
    if (position := raw.find(b"\0")) >= 0:
        raise UserError(f"{file}, byte {position}: a NUL character. Is it a CSV file? Save it as CSV in UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, row {row}, byte {error.start}: not UTF-8 text (Latin-1?). Save it as CSV in UTF-8.") from None
    width, number = 0, 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), 1):
            width = width or len(cells)
            if cells and len(cells) != width:
                raise UserError(f"{file}, row {number}: {len(cells)} cells under {width} columns. Quote cells that hold commas.")
            if cells:
                yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(f"{file}, row {number + 1}: {error}. Save it as CSV with commas and double quotes.") from None


def _parquet(file: Path) -> Iterator[tuple[int, list[str]]]:
    """As text where a column can be text; columns of lists and the like are left empty."""
    table = parquet.read_table(file)
    columns = []
    for column in table.columns:
        try:
            columns.append([value or "" for value in column.cast(pyarrow.string()).to_pylist()])
        except pyarrow.ArrowNotImplementedError:
            columns.append([""] * table.num_rows)
    yield 1, table.column_names
    yield from ((number, list(values)) for number, values in enumerate(zip(*columns, strict=True), 2))


def _record(values: Sequence[str], columns: Columns, where: str) -> Record:
    said = {role: values[n] for role, n in columns.roles.items()}
    labels = {name: values[n] for name, n in columns.labels.items()}
    if said.get("label"):
        labels["label"] = said["label"]
    for name in ("path", "patient"):
        if said.get(name) == "":
            raise UserError(f"{where}: the {name} is empty. Fill it in or delete the row.")
    for name, value in [*said.items(), *labels.items()]:
        if any(ord(character) < 32 for character in value):
            raise UserError(f"{where}: the {name} {value!r} holds a line break or control character. Take it out.")
    split = split_named(said.get("split", ""))
    if said.get("split") and not split:
        raise UserError(f"{where}: the split {said['split']!r} is unknown. Write train, val or test, or leave it empty.")
    return Record(
        locator=said["path"],
        reader="",
        labels={name: value for name, value in labels.items() if value},
        patient=said.get("patient"),
        study=said.get("study") or None,
        site=said.get("site") or None,
        split=split,
        extra={name: said[name] for name in _EXTRA if said.get(name)},
    )
