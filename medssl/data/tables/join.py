"""Joining a table with images: finding the table beside the images, and the file that each of its rows names."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from medssl.data.tables.columns import TableConfig, normalise_name
from medssl.data.tables.table import SUFFIXES, Row, Table, format_rows, merge_row, read_table
from medssl.data.walk import RootFolder
from medssl.errors import UserError
from medssl.types import Record

_NAME = "the table beside the images"  # in messages; the name of the file may be a patient's name


NO_TABLE = "none"
REMEDY = "Correct the table, or continue without it: --set data.source.table=none"


class JoinConfig(TableConfig):
    """The options of a source with a table beside the images."""

    table: str = Field(default="", description="The name of the table beside the images, where there are several; none: use no table.")

    @property
    def describes_table(self) -> bool:
        """Whether the configuration names a table or its columns."""
        return bool(self.table or self.columns or self.labels)


class Joined(NamedTuple):
    """`records` with the values of the table; `notes` for a person; `error`: why the table could not be used, "" otherwise."""

    records: list[Record]
    notes: list[str]
    error: str = ""


def join_table(records: Sequence[Record], root: Path, config: JoinConfig, left_out: Sequence[str] = ()) -> Joined:
    """The records with the values of the table in the folder `root`. Without a table, or with one that cannot be used, they are unchanged.

    A table's values replace those of folders and headers, but a class folder and the table must agree. `left_out`: files that exist but
    have no record; a table may list them. A table cannot be used, for instance, where it is damaged, where no column names the images,
    where rows name a file outside the root, a missing file, or a file twice, and where labels contradict the class folders. Raises
    UserError for that if the configuration describes the table: then it is no other file that happens to lie there.
    """
    try:
        return _join(records, root, config, left_out)
    except UserError as error:
        text = str(error)
        text = text[0].upper() + text[1:]
        if config.describes_table:
            raise UserError(f"{text}\n{REMEDY}") from None
        return Joined(list(records), [], text)


def _join(records: Sequence[Record], root: Path, config: JoinConfig, left_out: Sequence[str]) -> Joined:
    file, notes = _find_table(root, config)
    if file is None:
        return Joined(list(records), notes)
    table = read_table(file, config, _NAME)
    rows = locate_rows(table, root, lambda: {*(record.locator for record in records), *left_out})
    records = _check_class_folders(records, table, rows, notes)
    described = sum(record.locator in rows for record in records)
    if not described:
        raise UserError(f"{_NAME.capitalize()} lists none of the {len(records)} images found. Correct its paths or remove the table.")
    notes.append(f"{_NAME} describes {described} of {len(records)} images")
    return Joined([merge_row(record, rows[record.locator]) if record.locator in rows else record for record in records], notes)


def locate_rows(table: Table, root: Path, files: Callable[[], Iterable[str]], skip_missing: bool | None = None) -> dict[str, Row]:
    """The rows by the locator of the file that each names. A row names a file by its path relative to `root` (resolved), or by a name that
    only one of the `files` has. The first folder of a path is ignored where it is the name of `root` or does not exist. `files` is called
    once at most, and only if a path does not exist.

    Raises UserError for rows that name a file outside the root, several files, a missing file (unless `skip_missing`; None: the source has
    no such option), or a file that another row names.
    """
    folder, by_name = RootFolder(root), cache(lambda: _by_name(files()))
    result: dict[str, Row] = {}
    missing, several, twice = [], [], []
    for row in table.rows:
        try:
            locator = _find_as_written(row.record.locator, folder)
        except ValueError:
            raise UserError(
                f"{table.name}, row {row.number}: the file is outside the table's folder (outside_root). Put the table into a folder "
                "above all its images."
            ) from None
        if locator is None:
            namesakes = by_name().get(row.record.locator, [])
            if len(namesakes) != 1:
                (several if namesakes else missing).append(row.number)
                continue
            locator = namesakes[0]
        if locator in result:
            twice.append(row.number)
        else:
            result[locator] = row
    skipping = "" if skip_missing is None else ", or leave them out with --set data.source.missing=skip"
    for wrong, problem in (
        ([] if skip_missing else missing, f"files that are not there. Correct or delete these rows{skipping}"),
        (several, "files by a name that several files below its folder have. Write their paths"),
        (twice, "files twice. Keep one row for each"),
    ):
        if wrong:
            raise UserError(f"{table.name} lists {len(wrong)} {problem}: {format_rows(wrong)}.")
    return result


def _find_table(root: Path, config: JoinConfig) -> tuple[Path | None, list[str]]:
    """The table beside the images, None where there is none or no single one, and a note for a person in the last case."""
    if config.table == NO_TABLE:
        return None, []
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


def _check_class_folders(records: Sequence[Record], table: Table, rows: Mapping[str, Row], notes: list[str]) -> Sequence[Record]:
    """The records; without the labels from their class folders where the table has labels and uses other words. Where the words are the
    same, raises UserError for rows that differ from their folders."""
    in_table = {normalise_name(row.record.labels["label"]) for row in rows.values() if "label" in row.record.labels}
    in_folders = {record.labels["label"] for record in records if "label" in record.labels}
    if not (in_table or table.several_findings) or not in_folders:
        return records
    if in_table.isdisjoint(map(normalise_name, in_folders)):
        notes.append(f"the {len(in_folders)} folders are not taken as classes: {_NAME} has other labels")
        return [replace(record, labels={}) for record in records]
    contradictions = [
        row.number
        for record in records
        if (row := rows.get(record.locator)) and "label" in row.record.labels
        if normalise_name(row.record.labels["label"]) != normalise_name(record.labels["label"])
    ]
    if contradictions:
        raise UserError(
            f"{_NAME.capitalize()} contradicts the class folders for {len(contradictions)} images. Correct the rows or move the images: "
            f"{format_rows(contradictions)}."
        )
    return records


def _find_as_written(cell: str, folder: RootFolder) -> str | None:
    """The locator of the file that the path in `cell` names, with its first folder or without it; None where no such file exists. Raises
    ValueError for a file outside the folder."""
    if (locator := folder.locator(cell)) is not None:
        return locator
    first, slash, rest = cell.replace("\\", "/").removeprefix("./").partition("/")
    removable = slash and first not in ("", "..") and (first == folder.path.name or not os.path.lexists(folder.path / first))
    return folder.locator(rest) if removable and rest else None


def _by_name(locators: Iterable[str]) -> defaultdict[str, list[str]]:
    """{file name: locators of the files with that name}."""
    names = defaultdict(list)
    for locator in locators:
        names[locator.rpartition("/")[2]].append(locator)
    return names
