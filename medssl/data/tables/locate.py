"""From the cells of a table to the files that they name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from medssl.data.tables.table import Row, Table, rows_named
from medssl.data.walk import Inside
from medssl.errors import UserError


def located(table: Table, root: Path, files: Callable[[], Iterable[str]], skip_missing: bool | None = None) -> dict[str, Row]:
    """The rows by the locator of the file that each names: by its path relative to `root` (resolved), with or without a leading folder
    that is the root's own or is not there, or by a bare name that only one of the `files` has. `files` is asked once at most, where a
    path leads nowhere.

    Raises UserError for rows that name a file outside the root, several files, a missing one (unless `skip_missing`; None: the source has
    no such option), or one twice.
    """
    inside, by_name = Inside(root), cache(lambda: _by_name(files()))
    result: dict[str, Row] = {}
    missing, several, twice = [], [], []
    for row in table.rows:
        try:
            locator = _as_written(row.says.locator, inside)
        except ValueError:
            raise UserError(
                f"{table.name}, row {row.number}: the file lies outside the table's folder (outside_root). Put the table into a folder "
                "above all its images."
            ) from None
        if locator is None:
            namesakes = by_name().get(row.says.locator, [])
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
            raise UserError(f"{table.name} lists {len(wrong)} {problem}: {rows_named(wrong)}.")
    return result


def _as_written(cell: str, inside: Inside) -> str | None:
    """The file that the path names, with its first folder or without it."""
    if (locator := inside.locator(cell)) is not None:
        return locator
    first, slash, rest = cell.replace("\\", "/").removeprefix("./").partition("/")
    stray = slash and first not in ("", "..") and (first == inside.root.name or not os.path.lexists(inside.root / first))
    return inside.locator(rest) if stray and rest else None


def _by_name(locators: Iterable[str]) -> defaultdict[str, list[str]]:
    names = defaultdict(list)
    for locator in locators:
        names[locator.rpartition("/")[2]].append(locator)
    return names
