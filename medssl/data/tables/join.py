"""Joining tables with images: finding the tables, understanding them, and giving what they say to the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from medssl.data.tables.coding import unify_names
from medssl.data.tables.columns import TableConfig, normalise_name
from medssl.data.tables.file_index import FileIndex
from medssl.data.tables.finding import Found, find_tables
from medssl.data.tables.linking import Known, Names
from medssl.data.tables.reading import format_rows, read_table
from medssl.data.tables.resolving import Understanding, describe, fill_published, refuse_unused, understand_tables
from medssl.errors import UserError
from medssl.types import Record

REMEDY = "Correct the table, or continue without it: --set data.source.table=none"


class JoinConfig(TableConfig):
    """The options of a source with tables beside the images."""

    table: tuple[str, ...] = Field(
        default=(),
        description="The tables that describe the images: paths from the image folder, from the current folder, or absolute. Without "
        "this, tables in the image folder, one level below and beside the folder are used. none: use no table.",
    )

    @field_validator("table", mode="before")
    @classmethod
    def _one_table_is_a_list(cls, value: Any) -> Any:
        return tuple(filter(None, [value])) if isinstance(value, str) else value

    @property
    def describes_table(self) -> bool:
        """Whether the configuration names a table or its columns."""
        return bool(self.table or self.columns or self.labels)


class Joined(NamedTuple):
    """`records` with the values of the tables; `notes` for a person; `error`: why the tables could not be used, "" otherwise."""

    records: list[Record]
    notes: list[str]
    error: str = ""


def join_tables(
    records: Sequence[Record], root: Path, config: JoinConfig, files: Sequence[str] = (), names: Mapping[str, Names] | None = None
) -> Joined:
    """The records with what the tables of the folder `root` say. Without tables, or with unusable ones, they keep what they have.

    `files`: the locators of all files that were found, among which the tables are; `names`: the files by further names that their headers
    give them, as in {"image": {SOPInstanceUID: files}}. A table's values replace those of folders and headers,
    but a class folder and the table must agree. Tables cannot be used, for instance, where one is damaged, where no column names the
    images, where a name means several files, and where labels contradict the class folders. Raises UserError for that if the
    configuration describes the tables: then they are no other files that happen to lie there.
    """
    try:
        records, notes = _join(records, root, config, files, names or {})
    except UserError as error:
        text = str(error)
        text = text[0].upper() + text[1:]
        if config.describes_table:
            raise UserError(f"{text}\n{REMEDY}") from None
        tidy, notes = tidy_labels(records)
        return Joined(tidy, notes, text)
    tidy, more = tidy_labels(records)
    return Joined(tidy, [*notes, *more])


def tidy_labels(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The records with one spelling of each class, and a note where there were several."""
    names: dict[str, Counter[str]] = {}
    for record in records:
        for label, value in record.labels.items():
            names.setdefault(label, Counter())[value] += 1
    spelling, notes = {}, []
    for label, counted in names.items():
        spelling[label], note = unify_names(counted)
        if note:
            notes.append(f"{label}: {note}")
    if not notes:
        return list(records), []
    return [
        replace(record, labels={label: spelling[label].get(value, value) for label, value in record.labels.items()}) for record in records
    ], notes


def _join(
    records: Sequence[Record], root: Path, config: JoinConfig, files: Sequence[str], names: Mapping[str, Names]
) -> tuple[list[Record], list[str]]:
    found, notes = find_tables(root, config.table, files)
    if not found:
        return list(records), notes
    index = FileIndex(root, list(dict.fromkeys(record.locator for record in records)))
    tables = [read_table(each.file, each.name, index.has) for each in found]
    beside = all(each.beside for each in found)
    try:
        understanding = understand_tables(tables, Known(index, records, names), config)
    except UserError:
        if beside:  # a table of other data, in the folder above
            return list(records), notes
        raise
    images = len(index.files)
    if beside and 2 * len(understanding.described) < images:
        return list(records), notes
    refuse_unused(understanding, images)
    records = _check_class_folders(records, understanding)
    filled = fill_published(understanding, records)
    notes.append(f"{_subject(found)} {len(understanding.described)} of {images} images")
    return filled, [*notes, *describe(understanding, images)]


def _subject(found: Sequence[Found]) -> str:
    return "the table beside the images describes" if len(found) == 1 else f"{len(found)} tables beside the images describe"


def _check_class_folders(records: Sequence[Record], understanding: Understanding) -> Sequence[Record]:
    """The records; without the labels from their class folders where the tables have labels and use other words. Where the words are the
    same, raises UserError for rows that differ from their folders. A column that was only guessed to be a label replaces no folders."""
    in_folders = {record.labels["label"] for record in records if "label" in record.labels}
    if not in_folders:
        return records
    for name in understanding.unnamed & set(understanding.labels):
        del understanding.labels[name]
        understanding.notes.append(f"the classes are those of the folders; column {name!r} may be a label, too: --label {name!r}")
    labels = understanding.labels.get("label", {})
    findings = any(set(values.values()) <= {"0", "1"} for values in understanding.labels.values())
    if not labels and not findings:
        return records
    if {normalise_name(value) for value in labels.values()}.isdisjoint(map(normalise_name, in_folders)):
        understanding.notes.append(f"the {len(in_folders)} folders are not taken as classes: the table has other labels")
        return [replace(record, labels={}) for record in records]
    wrong = {
        record.locator
        for record in records
        if normalise_name(labels.get(record.locator, "")) not in ("", normalise_name(record.labels.get("label", "")))
    }
    if wrong:
        link = next(link for link in understanding.links if wrong & link.rows_of.keys())
        rows = sorted(link.table.rows[link.rows_of[file][0]] for file in wrong if file in link.rows_of)
        raise UserError(
            f"{link.table.name} contradicts the class folders for {len(wrong)} images. Correct the rows or move the images: "
            f"{format_rows(rows)}."
        )
    return records
