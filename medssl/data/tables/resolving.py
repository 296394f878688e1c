"""What several tables say of the images together: each table is linked with files, and its roles and labels are given to them."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from medssl.data.names import in_any_spelling
from medssl.data.tables import merging, published
from medssl.data.tables.columns import Columns, TableConfig, find_columns, find_groups, normalise_name, parse_split
from medssl.data.tables.labelling import read_labels
from medssl.data.tables.linking import Known, Link, link_table, missing_key
from medssl.data.tables.merging import Values
from medssl.data.tables.reading import Table, refuse_control_characters
from medssl.errors import UserError, suggest
from medssl.types import Record

_IDENTITY, _EXTRA = ("patient", "study", "site", "split"), ("sex", "age", "view", "scanner", "sequence")


@dataclass
class Understanding:
    """What tables say of files.

    `roles`: {role: {file: value}}; `labels`: {name: {file: value}}; `groups`: what stands for the patient where none is known; `links`: how
    the tables belong to the files; `columns`: the columns of each; `unused`: tables that no column links; `unnamed`: labels that were taken
    without a name that says so; `notes`: for a person.
    """

    roles: dict[str, Values] = field(default_factory=lambda: defaultdict(dict))
    labels: dict[str, Values] = field(default_factory=dict)
    groups: Values = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)
    unused: list[Table] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def described(self) -> set[str]:
        """The files that have a row in any table."""
        return {file for link in self.links for file in link.rows_of}

    def apply(self, record: Record) -> Record:
        """The record with the values of the tables. Where they have none, that of the record stays."""
        file = record.locator
        labels = {name: values[file] for name, values in self.labels.items() if file in values}
        extra = {role: self.roles[role][file] for role in _EXTRA if file in self.roles[role]}
        found = {role: value for role in _IDENTITY if (value := self.roles[role].get(file))}
        known = record.patient and record.patient_from == "data"
        if not known and "patient" not in found and file in self.groups:
            found["patient"] = self.groups[file]
        if not (labels or extra or found):
            return record
        if "patient" in found:
            found["patient_from"] = "data"
        return replace(record, labels={**record.labels, **labels}, extra={**record.extra, **extra}, **found)


def understand_tables(tables: Sequence[Table], known: Known, config: TableConfig) -> Understanding:
    """What the tables say of the files. Tables with the same columns are read as one; tables that name images come first, and others may be
    joined to them by a column of the same name.

    Raises UserError where a table's meaning is not certain; the message names the setting that says it.
    """
    result = Understanding()
    todo = _with_same_columns(tables)
    _refuse_unknown(config, todo)
    while todo:
        links = [link for table in todo if (link := link_table(table, known, config)) is not None]
        links.sort(key=lambda link: (not link.per_image, -len(link.rows_of)))
        if not links:
            break
        first = links[0]
        _refuse_versions(first)
        _read_link(first, config, result)
        known.links.append(first)
        todo = [table for table in todo if table is not first.table]
    result.unused = todo
    return result


def understand_rows(table: Table, config: TableConfig) -> Understanding:
    """What a table says whose rows hold the images themselves. The file of the first row is called "0". Raises UserError as above."""
    result = Understanding()
    _refuse_unknown(config, [table])
    rows = range(len(table.rows))
    _read_link(Link(table, "", "rows", {str(row): [row] for row in rows}, len(rows)), config, result)
    return result


def _read_link(link: Link, config: TableConfig, result: Understanding) -> None:
    columns = find_columns(link.table.header, config, link.table.name)
    _read_roles(link, columns, result)
    _read_table_labels(link, columns, config, result)
    result.links.append(link)
    result.columns.append(columns)


def _with_same_columns(tables: Sequence[Table]) -> list[Table]:
    """The tables; those with the same columns are one. If their names say train and test, this is the split."""
    groups: dict[tuple[str, ...], list[Table]] = {}
    for table in tables:
        groups.setdefault((*table.header, str(table.headed)), []).append(table)
    result = []
    for group in groups.values():
        if len(group) == 1:
            result += group
            continue
        columns = [[cell for part in cells for cell in part] for cells in zip(*(table.columns for table in group), strict=True)]
        header, splits = list(group[0].header), [_split_of_name(table) for table in group]
        if all(splits) and len(set(splits)) > 1 and "split" not in map(normalise_name, header):
            header.append("split")
            columns.append([split or "" for table, split in zip(group, splits, strict=True) for _ in table.rows])
        name = f"{len(group)} tables with the same columns ({group[0].name} first)"
        rows = [row for table in group for row in table.rows]
        starts = list(accumulate((len(table.rows) for table in group[:-1]), initial=0))
        result.append(Table(name, group[0].file, header, [*columns], rows, group[0].headed, starts))
    return result


def _refuse_versions(link: Link) -> None:
    """Raises UserError where several tables with the same columns describe the same images: then they are versions of one table."""
    starts = link.table.starts
    if len(starts) > 1:
        twice = sum(bisect_right(starts, min(rows)) != bisect_right(starts, max(rows)) for rows in link.rows_of.values())
        if twice:
            raise UserError(
                f"{link.table.name} describe {twice} images twice. Name the right one with --set data.source.table=PATH, or take the other "
                "ones away."
            )


def _split_of_name(table: Table) -> str | None:
    words = table.file.name.lower().partition(".")[0].replace("-", "_").split("_")
    return next((split for word in words if (split := parse_split(word))), None)


def _refuse_unknown(config: TableConfig, tables: Sequence[Table]) -> None:
    """Raises UserError for a column that the configuration names and that no table has."""
    for column in config.columns.values():
        if tables and not any(column in table.header for table in tables):
            find_columns(tables[0].header, config, tables[0].name)
            names = [name for table in tables for name in table.header] if all(table.headed for table in tables) else []
            raise UserError(f"{tables[0].name} has no column {column!r}. {_nearest(column, names)}".strip())


def _nearest(column: str, names: Sequence[str]) -> str:
    return suggest(column, names) if names else "Its columns are called column 1, column 2 and so on."


def _read_roles(link: Link, columns: Columns, result: Understanding) -> None:
    table = link.table
    for role, column in columns.roles.items():
        if role == "path":
            continue
        cells = table.column(column)
        if role == "split":
            cells = _parse_splits(table, cells)
        _refuse_bad_cells(table, link, role, cells)
        _fill(result, table, role, merging.merge_extra(cells, link) if role in _EXTRA else merging.merge_identity(cells, link, role))
    if "patient" not in columns.roles and (column := _group_column(link)):
        result.groups |= merging.merge_extra(table.column(column), link)
        result.notes.append(f"column {column!r} stands for the patient: it groups images")


def _fill(result: Understanding, table: Table, role: str, values: Values) -> None:
    """Values of files that have none of this role yet. Raises UserError where an earlier table says something else of patient or split."""
    before = result.roles[role]
    if role in ("patient", "split") and (
        wrong := sum(
            (known := before.get(file, value)) != value and in_any_spelling(known) != in_any_spelling(value)
            for file, value in values.items()
        )
    ):
        raise UserError(
            f"{table.name} contradicts another table for the {role} of {wrong} images. Correct one, or name the right table alone."
        )
    result.roles[role] = {**values, **before}


def _group_column(link: Link) -> str:
    """The column that groups images as a patient does, "" where there is none: a lesion, or an ID that several images share."""
    header = link.table.header
    if groups := find_groups(header):
        return groups[0]
    for column in header:
        if normalise_name(column) == "id" and link.per_image:
            distinct = {link.table.column(column)[rows[0]] for rows in link.rows_of.values()}
            if "" not in distinct and 1 < len(distinct) < len(link.rows_of):
                return column
    named = link.column.strip("'")
    return named if link.how.startswith(("names of folders", "beginnings", "the patient of")) and named in header else ""


def _parse_splits(table: Table, cells: Sequence[str]) -> list[str]:
    meaning = {cell: parse_split(cell) or "" for cell in set(cells)}
    if wrong := {cell for cell, split in meaning.items() if cell and not split}:
        row = next(row for row, cell in zip(table.rows, cells, strict=True) if cell in wrong)
        raise UserError(f"{table.name}, row {row}: the split is unknown. Write train, val or test, or leave it empty.")
    return [meaning[cell] for cell in cells]


def _refuse_bad_cells(table: Table, link: Link, role: str, cells: Sequence[str]) -> None:
    """Raises UserError for a patient that is not stated, and for control characters."""
    if role == "patient" and "" in cells:
        used = {row for rows in link.rows_of.values() for row in rows}
        empty = [row for row in used if not cells[row]]
        if empty:
            raise UserError(f"{table.name}, row {table.rows[min(empty)]}: the patient is empty. Fill it in or delete the row.")
    refuse_control_characters(table, cells, role)


def _read_table_labels(link: Link, columns: Columns, config: TableConfig, result: Understanding) -> None:
    labels = read_labels(link.table, columns, config)
    result.notes += labels.notes
    notes: list[str] = []
    for label in labels.found:
        for name, values in merging.merge_label(label, link, config, notes).items():
            if name == "label" and name in result.labels and columns.label:
                name = columns.label[0] if columns.label[0] not in result.labels else name
            result.labels[name] = {**values, **result.labels.get(name, {})}
    if not labels.certain:
        result.unnamed |= {label.name for label in labels.found}
    result.notes += notes if len(notes) < 5 else notes[:1]
    if labels.found:
        result.notes += merging.describe_several(link)


def describe(understanding: Understanding, images: int) -> Iterator[str]:
    """For each table, in words: what names the images, how many rows match, which columns have roles, and how many images have no row."""
    for link, columns in zip(understanding.links, understanding.columns, strict=True):
        table, where = link.table, f"{link.table.name}: " if len(understanding.links) > 1 else ""
        kind = "images" if link.per_image else "groups of images"
        yield (
            f"{where}column {link.column} names {kind} ({link.how}); {link.matched} of {len(table.rows)} rows match"
            + (f", {len(link.unmatched)} name no image here" if link.unmatched else "")
            + f"; {len(link.rows_of)} of {images} files have a row"
        )
        if roles := [f"{column} = {role}" for role, column in columns.roles.items() if role != "path"]:
            yield f"{where}{', '.join(roles)}"
    if understanding.unused:
        count = len(understanding.unused)
        what = "1 table is" if count == 1 else f"{count} tables are"
        yield f"{what} not used: no column names images. Choose it with --set data.source.columns.path=NAME"
    yield from dict.fromkeys(understanding.notes)


def fill_published(understanding: Understanding, records: Sequence[Record]) -> list[Record]:
    """The records with what published data sets say outside their tables: patients and studies in paths, official lists beside a table."""
    filled = [understanding.apply(record) for record in records]
    chexpert = any("Frontal/Lateral" in link.table.header for link in understanding.links)
    if not understanding.roles["patient"]:
        filled = published.fill_from_paths(filled, split=chexpert and not understanding.roles["split"])
    for link in understanding.links:
        filled = published.fill_official_splits(filled, link.table.file.parent)
    return filled


def refuse_unused(understanding: Understanding, images: int) -> None:
    """Raises UserError where no table could be used."""
    if not understanding.links and understanding.unused:
        raise UserError(missing_key(understanding.unused[0], images))
