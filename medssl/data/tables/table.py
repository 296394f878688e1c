"""Reading CSV and Parquet tables as text: the patient 00123 stays 00123, and the label NA stays NA."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow
from pyarrow import parquet

from medssl.data.tables import findings, published
from medssl.data.tables.columns import Columns, TableConfig, find_columns, parse_split
from medssl.errors import UserError
from medssl.types import Record

SUFFIXES = (".csv", ".parquet")
_EXTRA = ("sex", "age", "view", "scanner")


class Row(NamedTuple):
    """One row. `number`: as in a spreadsheet, where the header is row 1; `record`: the image that the row describes, whose locator is the
    path as written in the table."""

    number: int
    record: Record


class Table(NamedTuple):
    """The rows of a table. `name`: its name in messages; `several_findings`: whether a cell of its label column held several findings."""

    name: str
    rows: Sequence[Row]
    several_findings: bool


def read_table(file: Path, config: TableConfig, name: str) -> Table:
    """The rows of a CSV or Parquet file that lists images. `name`: the file's name in messages. Messages name rows and columns; they never
    repeat a cell, which may be private.

    Raises UserError, with the row, for everything whose meaning is not certain: another separator or encoding, rows of another length,
    two columns of one name, no column or an empty cell for the path, an empty patient, an unknown split.
    """
    try:
        lines = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_csv(file, name)
        _, header = next(lines, (1, []))
        columns = _check_header(header, config, name)
        rows = [Row(number, _parse_row(values, columns, config, f"{name}, row {number}")) for number, values in lines]
    except pyarrow.ArrowException as error:
        raise UserError(f"{name} cannot be read ({type(error).__name__}). Is it a CSV (UTF-8, commas) or Parquet file?") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or 'damaged'}. Is it a CSV (UTF-8, commas) or Parquet file?") from None
    if not rows:
        raise UserError(f"{name} has a header but no rows. List one image a row.")
    records = [row.record for row in rows]
    if "patient" not in columns.roles:
        records = published.fill_from_paths(records, split=bool(columns.marked))
    records = published.fill_official_splits(findings.separate_findings(records), file.parent)
    several_findings = any("label" in row.record.labels for row in rows) and not any("label" in record.labels for record in records)
    return Table(name, [Row(row.number, record) for row, record in zip(rows, records, strict=True)], several_findings)


def merge_row(record: Record, row: Row) -> Record:
    """The record with the values of its row. Where the row has no value, that of the record stays."""
    values = row.record
    return replace(
        record,
        labels={**record.labels, **values.labels},
        patient=values.patient or record.patient,
        patient_from="data" if values.patient else record.patient_from,
        study=values.study or record.study,
        site=values.site or record.site,
        split=values.split or record.split,
        extra={**record.extra, **values.extra},
    )


def format_rows(numbers: Sequence[int]) -> str:
    """The first 20 of the row numbers as text, and how many more there are.

    >>> format_rows([3, 4])
    'row 3, row 4'
    """
    more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
    return ", ".join(f"row {number}" for number in numbers[:20]) + more


def _check_header(header: list[str], config: TableConfig, name: str) -> Columns:
    twice = [column for column, count in Counter(header).items() if column and count > 1]
    if twice:
        raise UserError(f"{name}, row 1: the column {twice[0]!r} occurs twice. Keep one, or give them different names.")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise UserError(f"{name}, row 1: the columns seem to be separated by semicolons or tabs. Save it with commas.")
    columns = find_columns(header, config, name)
    if "path" not in columns.roles:
        raise UserError(
            f"{name}: no column names the images; it has {', '.join(map(repr, header)) or 'none'}. Name one 'path', "
            "or choose one with --set data.source.columns.path=NAME"
        )
    return columns


def _read_csv(file: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    raw = file.read_bytes()
    if (position := raw.find(b"\0")) >= 0:
        raise UserError(f"{name}, byte {position}: a NUL character. Is it a CSV file? Save it as CSV in UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, row {row}, byte {error.start}: not UTF-8 text (Latin-1?). Save it as CSV in UTF-8.") from None
    width, number = 0, 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), 1):
            width = width or len(cells)
            if cells and len(cells) != width:
                raise UserError(f"{name}, row {number}: {len(cells)} cells under {width} columns. Quote cells that contain commas.")
            if cells:
                yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(f"{name}, row {number + 1}: {error}. Save it as CSV with commas and double quotes.") from None


def _read_parquet(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows as text. Columns that cannot become text, such as lists, are empty."""
    table = parquet.read_table(file)
    columns = []
    for column in table.columns:
        try:
            columns.append([value or "" for value in column.cast(pyarrow.string()).to_pylist()])
        except pyarrow.ArrowNotImplementedError:
            columns.append([""] * table.num_rows)
    yield 1, table.column_names
    yield from ((number, list(values)) for number, values in enumerate(zip(*columns, strict=True), 2))


def _parse_row(values: Sequence[str], columns: Columns, config: TableConfig, where: str) -> Record:
    cells = {role: values[n] for role, n in columns.roles.items()}
    labels = {name: values[n] for name, n in columns.labels.items()}
    if cells.get("label"):
        labels["label"] = cells["label"]
    for name in ("path", "patient"):
        if cells.get(name) == "":
            raise UserError(f"{where}: the {name} is empty. Fill it in or delete the row.")
    for name, value in [*cells.items(), *labels.items()]:
        if any(ord(character) < 32 for character in value):
            raise UserError(f"{where}: the {name} contains a line break or control character. Remove it.")
    for name, n in columns.marked.items():
        try:
            labels[name] = findings.parse_mark(values[n], config)
        except (KeyError, ValueError):
            raise UserError(f"{where}: the finding {name!r} is marked with something other than 1, 0, -1 or nothing. Correct it.") from None
    split = parse_split(cells.get("split", ""))
    if cells.get("split") and not split:
        raise UserError(f"{where}: the split is unknown. Write train, val or test, or leave it empty.")
    return Record(
        locator=cells["path"],
        reader="",
        labels={name: value for name, value in labels.items() if value},
        patient=cells.get("patient"),
        study=cells.get("study") or None,
        site=cells.get("site") or None,
        split=split,
        extra={name: cells[name] for name in _EXTRA if cells.get(name)},
    )
