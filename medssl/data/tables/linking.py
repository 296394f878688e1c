"""What a row of a table stands for: the column whose cells name images, studies or patients, and the files of each row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations

from medssl.data.tables.columns import TableConfig, choose_column, may_name_images, names_folders, normalise_name, role_of_name
from medssl.data.tables.file_index import FileIndex, Match, are_names_of_images, match_numbers
from medssl.data.tables.reading import Table, format_rows, public_header
from medssl.errors import UserError
from medssl.types import Record

Names = Mapping[str, Sequence[str]]  # {a name: the files that have it}
_HOW_OF_IDENTITY = {
    "patient": "the patient of the images",
    "study": "the study of the images",
    "series": "the series of the images",
    "image": "the SOPInstanceUID of the images",
    "accession": "the accession number of the images",
}
_FIRST, _NEARLY_ALL = 50, 0.9  # cells that are looked at first; the share of them
_LEAST_SHARE = 0.5  # of the cells that name files, in a column whose name says nothing of files
_ENOUGH = 0.5  # as many rows as this share of the best column's, and a finer column is preferred


@dataclass(frozen=True)
class Link:
    """How the rows of a table belong to files. `column`: the column (or several, with + between) that names the files; `how`: what its
    cells are; `rows_of`: the positions of the rows of each file; `matched`: how many rows have files; `unmatched`: the positions of the
    others."""

    table: Table
    column: str
    how: str
    rows_of: Mapping[str, Sequence[int]]
    matched: int
    unmatched: Sequence[int] = ()
    per_image: bool = True


@dataclass(frozen=True)
class _Candidate:
    """A column and what its cells name. `row_count`: how many rows have files; `spread`: files for each cell that has any."""

    column: str
    cells: Sequence[str]
    match: Match
    per_image: bool
    counts: Counter[str] = field(repr=False)

    @property
    def row_count(self) -> int:
        return sum(self.counts[cell] for cell in self.match.files)

    @property
    def uncertain_count(self) -> int:
        return sum(self.counts[cell] for cell in self.match.several)

    @property
    def spread(self) -> float:
        return sum(map(len, self.match.files.values())) / max(len(self.match.files), 1)


class Known:
    """What is known of the files without the table: their index, and those of each patient, study and series of their headers or folders;
    and the tables that are linked with files already."""

    def __init__(self, index: FileIndex, records: Sequence[Record], names: Mapping[str, Names] | None = None) -> None:
        self.index = index
        self.links: list[Link] = []
        self._records, self._names = records, names or {}

    @cached_property
    def by_identity(self) -> Mapping[str, Names]:
        """{"patient", "study", "series": {value: files}}, and "image" and "accession" for DICOM files."""
        result: dict[str, dict[str, dict[str, None]]] = {"patient": {}, "study": {}, "series": {}}
        for record in self._records:
            for kind, files in result.items():
                if value := getattr(record, kind):
                    files.setdefault(value, {})[record.locator] = None
        return {**{kind: {value: tuple(files) for value, files in found.items()} for kind, found in result.items()}, **self._names}

    def files_by_key(self, column: str) -> Iterator[tuple[str, Mapping[str, Sequence[str]]]]:
        """The files by the cells of the column of this name in the tables that are linked already, with the tables' names."""
        for link in self.links:
            for name in link.table.header:
                if name and normalise_name(name) == normalise_name(column):
                    cells, files = link.table.column(name), {}
                    for file, rows in link.rows_of.items():
                        for row in rows:
                            files.setdefault(cells[row], {})[file] = None
                    yield link.table.name, {cell: tuple(found) for cell, found in files.items() if cell}


def link_table(table: Table, known: Known, config: TableConfig) -> Link | None:
    """The files of each row of the table; None where no column names any.

    Raises UserError where this is not certain: where several columns name different files, and where names of files are not unique.
    """
    candidates = [*_candidates(table, known, config)]
    best_count = max((each.row_count + each.uncertain_count for each in candidates), default=0)
    if not best_count:
        return None
    good = [each for each in candidates if each.row_count + each.uncertain_count >= _ENOUGH * best_count]
    finest = min(each.spread or 1 for each in good)
    good = [each for each in good if (each.spread or 1) <= finest * 1.001]
    good.sort(key=lambda each: (not each.per_image, each.uncertain_count, role_of_name(each.column) != "path", -len(each.match.files)))
    chosen = good[0]
    several_rows = not chosen.per_image and chosen.row_count > len(chosen.match.files)
    if (chosen.uncertain_count or several_rows) and (pair := _match_pairs(table, known, config)):
        chosen = pair
    _refuse_several(table, chosen)
    rivals = [each for each in good if each.per_image and chosen.per_image and each.column != chosen.column]
    rivals = [each for each in rivals if len(each.match.files) == len(chosen.match.files)]
    if role_of_name(chosen.column) == "path":  # numbers of patients may happen to be names of files, too
        rivals = [each for each in rivals if role_of_name(each.column) in ("", "path")]
    rivals = [each for each in rivals if not each.uncertain_count and _files_by_row(each) != _files_by_row(chosen)]
    return _link(table, [chosen, *rivals] if _are_disjoint(table, chosen, rivals) else [chosen])


def missing_key(table: Table, images: int | None = None) -> str:
    """The sentence for a table whose columns name none of the images."""
    if images is not None and (paths := [name for name in table.header if role_of_name(name) == "path"]):
        beyond = any(cell.startswith("..") for cell in table.column(paths[0]))
        return (
            f"{table.name}: column {paths[0]!r} names none of the {images} images found{' (outside_root)' if beyond else ''}. Correct its "
            "paths, or choose the column that names the images with --set data.source.columns.path=NAME"
        )
    headless = "" if table.headed else " Its first line was read as data, as it looks like no header."
    name = "NAME" if table.headed else "'column 1'"
    return (
        f"{table.name}: no column names the images; {public_header(table)}.{headless} Name one 'path', "
        f"or choose one with --set data.source.columns.path={name}"
    )


def _candidates(table: Table, known: Known, config: TableConfig) -> Iterator[_Candidate]:
    named = config.columns.get("path")
    if named is not None and named in table.header:
        yield from _of_column(table, named, known, True)
        return
    columns = [column for column in table.header if column != config.columns.get("label") and column not in config.labels]
    hinted = [
        column
        for column in columns
        if column in config.columns.values() or may_name_images(column) or are_names_of_images(table.column(column)[:50])
    ]
    for column in columns:
        if (role_of_name(column) == "path" or names_folders(column)) and (folders := _one_folder_each(table, column, known)):
            yield folders
            return
    of_images = any(role_of_name(column) == "path" for column in hinted)
    enough = grouped = False
    for column in hinted:
        for candidate in _of_column(table, column, known, True):
            if candidate.per_image or not of_images or role_of_name(column) == "path":  # a row of an image is none of its patient
                yield candidate
                described = {file for files in candidate.match.files.values() for file in files}
                much = 2 * max(candidate.row_count / len(table.rows), len(described) / max(len(known.index.files), 1)) >= 1
                enough, grouped = enough or (much and candidate.per_image), grouped or much
    for column in [] if enough else columns:
        told = column in hinted or role_of_name(column) in ("sex", "age", "view", "scanner", "site", "split")
        by_chance = grouped and all(map(str.isdigit, set(table.column(column))))  # numbers that happen to be names of files, too
        if not told and not by_chance:
            yield from _of_column(table, column, known, False)


def _of_column(table: Table, column: str, known: Known, hinted: bool) -> Iterator[_Candidate]:
    """What the cells of a column name, in all the ways in which they may. Without a hint in the column's name, only images count, and only
    where nearly all cells name one."""
    cells = table.column(column)
    counts = Counter(cells)
    del counts[""]
    distinct = list(counts)
    if not distinct or (not hinted and (len(distinct) < 2 or any(len(cell) > 400 for cell in distinct[:50]))):
        return
    images = _Candidate(column, cells, known.index.match_images(distinct, table.file.parent), True, counts)
    if not hinted:
        short = all(re.fullmatch(r"\d{1,4}", cell) for cell in distinct)
        share = (len(images.match.files) + len(images.match.several)) / len(distinct)
        covers = 2 * len(images.match.files) >= len(known.index.files)
        if (
            (share < _LEAST_SHARE and not covers)
            or (short and not covers)
            or images.match.how.startswith("numbers")
            or images.match.how.endswith("any spelling")
        ):
            return
    yield images
    if len(images.match.files) == len(distinct) or not hinted:
        return
    if re.search("path|file", column.lower()):
        return
    for name, files in known.files_by_key(column):
        found = {cell: files[cell] for cell in distinct if cell in files}
        yield _Candidate(column, cells, Match(found, how=f"the same column of {name}"), False, counts)
    for kind, files in known.by_identity.items():
        role = role_of_name(column)
        if (
            role in (kind, "", "path")
            or (kind == "series" and "series" in normalise_name(column))
            or (kind, role) == ("accession", "study")
        ):
            match = Match(match_numbers(distinct, files), how=_HOW_OF_IDENTITY[kind])
            yield _Candidate(column, cells, match, kind == "image", counts)
    yield _Candidate(column, cells, known.index.match_folders(distinct), False, counts)
    beginnings = _Candidate(column, cells, known.index.match_beginnings(distinct), False, counts)
    if 2 * beginnings.row_count >= sum(counts.values()):
        yield beginnings


def _one_folder_each(table: Table, column: str, known: Known) -> _Candidate | None:
    """The candidate for a column in which each of several rows names another folder of files, as of a series; None where cells name images
    or are no folders."""
    cells = table.column(column)
    some = list(filter(None, cells[:_FIRST]))
    if (
        len(cells) < 2
        or len(set(cells)) < len(cells)
        or are_names_of_images(some)
        or known.index.match_images(some, table.file.parent).files
    ):
        return None
    match = known.index.match_folders(filter(None, cells))
    return _Candidate(column, cells, match, False, Counter(cells)) if len(match.files) >= _NEARLY_ALL * len(cells) else None


def _match_pairs(table: Table, known: Known, config: TableConfig) -> _Candidate | None:
    """Two columns that name images together: patient/image, site/image, or patient_side. A few rows are tried before all of them."""
    columns = [column for column in table.header if column not in config.labels]
    hinted = {column for column in columns if may_name_images(column) or column in config.columns.values()}
    for first, second in permutations(columns, 2):
        for separator in "/_-" if hinted & {first, second} else "":
            names = first, second, separator
            if _pair(table, *names, max(1, len(table.rows) // 50), known) and (pair := _pair(table, *names, 1, known)):
                return pair
    return None


def _pair(table: Table, first: str, second: str, separator: str, step: int, known: Known) -> _Candidate | None:
    """The candidate for the cells of two columns joined, in every `step`-th row, where most of them name one image each."""
    column, parts = f"{first}+{second}", zip(table.column(first)[::step], table.column(second)[::step], strict=True)
    counts = Counter(cells := [f"{a}{separator}{b}" for a, b in parts])
    match = known.index.match_images(list(counts), table.file.parent)
    return None if match.several or 2 * len(match.files) <= len(counts) else _Candidate(column, cells, match, True, counts)


def _refuse_several(table: Table, chosen: _Candidate) -> None:
    if several := chosen.match.several:
        rows = [table.rows[n] for n, cell in enumerate(chosen.cells) if cell in several]
        where = f"column {chosen.column!r}, " if table.headed else ""
        raise UserError(
            f"{table.name}, {where}lists {len(rows)} files by a name that several files below its folder have. Write their paths: "
            f"{format_rows(rows)}."
        )


def _are_disjoint(table: Table, chosen: _Candidate, rivals: Sequence[_Candidate]) -> bool:
    """Whether the columns name different files, so that a row stands for several images. Raises UserError where they name the same files
    in other rows: then it is not certain which is meant."""
    used = {file for files in chosen.match.files.values() for file in files}
    overlap = [each for each in rivals if used & {file for files in each.match.files.values() for file in files}]
    if overlap:
        raise UserError(
            f"{table.name}: the columns {chosen.column!r} and {overlap[0].column!r} name different images in one row. "
            f"Choose it with {choose_column('path', chosen.column)}"
        )
    return bool(rivals)


def _files_by_row(candidate: _Candidate) -> list[Sequence[str]]:
    return [candidate.match.files.get(cell, ()) for cell in candidate.cells]


def _link(table: Table, candidates: Sequence[_Candidate]) -> Link:
    rows_of: dict[str, list[int]] = {}
    matched = set()
    for candidate in candidates:
        files_of = candidate.match.files
        for row, cell in enumerate(candidate.cells):
            for file in files_of.get(cell, ()):
                rows_of.setdefault(file, []).append(row)
                matched.add(row)
    unmatched = [row for row in range(len(table.rows)) if row not in matched]
    columns = " and ".join(repr(candidate.column) for candidate in candidates)
    per_image = all(candidate.per_image for candidate in candidates)
    return Link(table, columns, candidates[0].match.how, rows_of, len(matched), unmatched, per_image)
