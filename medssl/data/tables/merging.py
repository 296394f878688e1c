"""One value for each image from the rows that belong to the image: boxes, readers, or one row alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from medssl.data.names import in_any_spelling
from medssl.data.tables.coding import Label
from medssl.data.tables.columns import TableConfig, is_box, is_reader
from medssl.data.tables.linking import Link
from medssl.data.tables.reading import Table, format_rows
from medssl.errors import UserError

Values = dict[str, str]  # {file: value}, without files that have none


def merge_identity(cells: Sequence[str], link: Link, what: str) -> Values:
    """The patient, study, site or split of each file. Raises UserError where rows of one file differ."""
    result, wrong = {}, []
    for file, rows in link.rows_of.items():
        values = {in_any_spelling(cell): cell for row in rows if (cell := cells[row])}
        if len(values) == 1:
            result[file] = next(iter(values.values()))
        elif values:
            wrong.append(link.table.rows[rows[-1]])
    if wrong:
        raise UserError(
            f"{link.table.name} lists {len(wrong)} files twice, with another {what} each time. Correct the rows: {format_rows(wrong)}."
        )
    return result


def merge_extra(cells: Sequence[str], link: Link) -> Values:
    """The sex, age, view or scanner of each file; none where rows of one file differ."""
    found = {file: {cells[row] for row in rows} - {""} for file, rows in link.rows_of.items()}
    return {file: next(iter(values)) for file, values in found.items() if len(values) == 1}


def merge_label(label: Label, link: Link, config: TableConfig, notes: list[str]) -> dict[str, Values]:
    """{name: the label of each file}. Findings are marked where any row of the file marks them (`merge` any), or most rows do (majority).
    Several classes for one file become findings, or the class of most rows.

    Raises UserError where rows of one file have several classes, and neither readers, boxes nor `merge` say how they are meant.
    """
    values = label.values
    single, several = {}, {}
    for file, rows in link.rows_of.items():
        if len(rows) == 1:
            if value := values[rows[0]]:
                single[file] = value
        elif found := Counter(value for row in rows if (value := values[row])):
            several[file] = found
    if label.kind == "mark":
        return {label.name: single | {file: _mark(found, config.merge) for file, found in several.items()}}
    differing = [file for file, found in several.items() if len(found) > 1]
    if not differing:
        return {label.name: single | {file: next(iter(found)) for file, found in several.items()}}
    if _merge_classes(label, link, config, differing) == "any":
        notes.append(f"{len(differing)} images have several classes of {label.name!r}: each class is a label, present or not")
        return _as_findings(single, several)
    votes = {file: _majority(found) for file, found in several.items()}
    undecided = sum(not value for value in votes.values())
    notes.append(f"{len(differing)} images have rows that differ in {label.name!r}: the class of most rows counts; {undecided} without one")
    return {label.name: single | {file: value for file, value in votes.items() if value}}


def describe_several(link: Link) -> list[str]:
    """A note where images have several rows."""
    count = sum(len(rows) > 1 for rows in link.rows_of.values())
    if not count:
        return []
    header = link.table.header
    why = " (readers)" if any(map(is_reader, header)) else " (boxes)" if has_boxes(link.table) else ""
    return [f"{count} images have several rows{why}, which are merged: a finding is present where any row says so, see data.source.merge"]


def has_boxes(table: Table) -> bool:
    """Whether the table has columns for the places of findings."""
    return sum(map(is_box, table.header)) >= 2 or any("box" in name.casefold() for name in table.header)


def _merge_classes(label: Label, link: Link, config: TableConfig, differing: Sequence[str]) -> str:
    """ "any" or "majority" for images whose rows have several classes."""
    if config.merge != "auto":
        return config.merge
    readers = [name for name in link.table.header if is_reader(name)]
    if readers:
        cells = link.table.column(readers[0])
        return "any" if any(_classes_of_one_reader(label, cells, link.rows_of[file]) > 1 for file in differing) else "majority"
    if has_boxes(link.table):
        return "any"
    rows = sorted(link.table.rows[row] for file in differing for row in link.rows_of[file])
    raise UserError(
        f"{link.table.name} lists {len(differing)} files twice or more, with several classes of {label.name!r}: {format_rows(rows)}. If an "
        "image can have several classes, say --set data.source.merge=any; if the most frequent one counts, --set data.source.merge=majority"
    )


def _classes_of_one_reader(label: Label, readers: Sequence[str], rows: Sequence[int]) -> int:
    """The most classes that one reader gives an image."""
    classes: dict[str, set[str]] = {}
    for row in rows:
        classes.setdefault(readers[row], set()).add(label.values[row])
    return max(len(found) for found in classes.values())


def _as_findings(single: Mapping[str, str], several: Mapping[str, Counter[str]]) -> dict[str, Values]:
    """A mark of each class for each file; the class that says that nothing was found is no label of its own."""
    classes_of = {file: {value} for file, value in single.items()} | {file: set(found) for file, found in several.items()}
    classes = sorted({name for found in classes_of.values() for name in found if not says_nothing(name)})
    return {name: {file: str(int(name in found)) for file, found in classes_of.items()} for name in classes}


def says_nothing(name: str) -> bool:
    """Whether a class says that nothing was found."""
    return "".join(name.casefold().replace("_", " ").split()) in ("nofinding", "nofindings", "normal", "none", "healthy")


def _mark(found: Counter[str], merge: str) -> str:
    if merge == "majority":
        return "1" if found["1"] >= found["0"] else "0"
    return "1" if found["1"] else "0"


def _majority(found: Counter[str]) -> str:
    """The most frequent value, "" where two are equally frequent."""
    most = found.most_common(2)
    return most[0][0] if len(most) == 1 or most[0][1] > most[1][1] else ""
