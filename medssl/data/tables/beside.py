"""The table that lies beside images: found without being named, joined by path, its gaps and contradictions told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medssl.data.tables.columns import TableConfig, squeezed
from medssl.data.tables.locate import located
from medssl.data.tables.table import SUFFIXES, Row, Table, merged, read, rows_named
from medssl.errors import UserError
from medssl.types import Record


class BesideConfig(TableConfig):
    """`table`: the name of the table beside the images, where there are several and none is called labels.csv."""

    table: str = ""


_NAME = "the table beside the images"  # it may be called after a patient


def joined(records: Sequence[Record], root: Path, config: BesideConfig, left_out: Sequence[str] = ()) -> tuple[list[Record], list[str]]:
    """`records` with what the table in `root` says of them, and notes; as they were where there is no table.

    A table's values stand above those of folders and headers, except that a class folder and the table must agree.
    `left_out`: files that exist but gave no record; a table may list them. Raises UserError for rows that name a file outside the
    root, a missing one or one twice, and for labels that contradict the class folders.
    """
    file, notes = _table(root, config)
    if file is None:
        return list(records), notes
    table = read(file, config, _NAME)
    rows = located(table, root, lambda: {*(record.locator for record in records), *left_out})
    records = _without_contradictions(records, table, rows, notes)
    found = sum(record.locator in rows for record in records)
    if not found:
        raise UserError(f"{_NAME.capitalize()} lists none of the {len(records)} images found. Correct its paths or take it away.")
    notes.append(f"{_NAME} describes {found} of {len(records)} images")
    return [merged(record, rows[record.locator].says) if record.locator in rows else record for record in records], notes


def _table(root: Path, config: BesideConfig) -> tuple[Path | None, list[str]]:
    if config.table:
        if not (root / config.table).is_file():
            raise UserError(f"There is no table {config.table!r} beside the images. Check data.source.table.")
        return root / config.table, []
    tables = sorted(file for file in root.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    for file in tables:
        if file.stem.lower() == "labels" or len(tables) == 1:
            return file, []
    several = f"{len(tables)} tables beside the images, none used; name one labels.csv or say --set data.source.table=NAME"
    return None, [several] if tables else []


def _without_contradictions(records: Sequence[Record], table: Table, rows: Mapping[str, Row], notes: list[str]) -> Sequence[Record]:
    """Class folders as labels only where the table uses the same words; there they must agree with it."""
    in_table = {squeezed(row.says.labels["label"]) for row in rows.values() if "label" in row.says.labels}
    in_folders = {record.labels["label"] for record in records if "label" in record.labels}
    if not (in_table or table.several) or not in_folders:
        return records
    if in_table.isdisjoint(map(squeezed, in_folders)):
        notes.append(f"the {len(in_folders)} folders are not taken as classes: {_NAME} has other labels")
        return [replace(record, labels={}) for record in records]
    contradictions = [
        row.number
        for record in records
        if (row := rows.get(record.locator)) and "label" in row.says.labels
        if squeezed(row.says.labels["label"]) != squeezed(record.labels["label"])
    ]
    if contradictions:
        raise UserError(
            f"{_NAME.capitalize()} contradicts the class folders for {len(contradictions)} images. Correct the rows or move the images: "
            f"{rows_named(contradictions)}."
        )
    return records
