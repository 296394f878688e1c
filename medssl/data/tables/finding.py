"""Finding the tables that belong to a folder of images: in the folder, one level below, or beside the folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medssl.data.tables.reading import is_table
from medssl.errors import UserError

NO_TABLE = "none"
_ONLY = "the table beside the images"  # in messages; the name of the file may be a patient's name
_MAX_TABLES = 20  # one level below; more are one table for each patient or series
# words of the names of tables that messages may repeat
_PUBLIC_WORDS = (
    "labels label train training test valid val validation validate dev metadata meta data split splits participants annotations cohort "
    "list images image table full merged chexpert mimic cxr groundtruth ground truth class info detailed survival stage entry finding "
    "findings nih padchest isic aptos odir ham10000 df 2017 2018 2019 2020 0 1 2 v1 v2"
)
_PUBLIC = set(_PUBLIC_WORDS.split())
_EMPTY_ANSWERS = re.compile(r"submission", re.IGNORECASE)  # a contest's form, in which every label is a placeholder


class Found(NamedTuple):
    """`name`: the table in messages; `beside`: whether it lies in the folder above the images, and may belong to other data."""

    file: Path
    name: str
    beside: bool = False


def find_tables(root: Path, named: Sequence[str], files: Sequence[str]) -> tuple[list[Found], list[str]]:
    """The tables that belong to the folder `root`, and notes for a person. `named`: those of the configuration; `files`: the locators of
    the files below the root. Raises UserError for a named table that is not there."""
    if tuple(named) == (NO_TABLE,):
        return [], []
    if named:
        return _give_names([_locate(root, each) for each in named]), []
    tables = [file for file in files if is_table(file) and file.count("/") <= 1 and not _EMPTY_ANSWERS.search(file)]
    notes = []
    if sum("/" in file for file in tables) > _MAX_TABLES:
        notes.append(f"{sum('/' in file for file in tables)} tables in sub-folders not used; name one with --set data.source.table=PATH")
        tables = [file for file in tables if "/" not in file]
    preferred = [file for file in tables if "/" not in file and _stem(file).lower() == "labels"]
    if preferred and len(tables) > 1 and _same_kind(root, preferred[0], tables):
        notes.append(f"{len(tables) - 1} other tables not used beside the one called labels; name them with --set data.source.table=PATH")
        tables = preferred
    if tables:
        return _give_names([root / file for file in tables]), notes
    try:
        beside = sorted(
            file for file in root.parent.iterdir() if is_table(file.name) and not file.name.startswith(".") and _is_own_file(file)
        )
    except OSError:
        beside = []
    beside = [file for file in beside if not _EMPTY_ANSWERS.search(file.name)]
    if len(beside) > _MAX_TABLES:
        return [], notes
    return [each._replace(beside=True) for each in _give_names(beside)], notes


def _locate(root: Path, named: str) -> Path:
    for file in (root / named, Path(named).expanduser()):
        if file.is_file():
            return file.resolve()
    raise UserError(f"There is no table {named!r} beside the images, nor from the current folder {Path.cwd()}. Check data.source.table.")


def _give_names(files: Sequence[Path]) -> list[Found]:
    if len(files) == 1:
        return [Found(files[0], _ONLY)]
    return [Found(file, _public_name(file, number)) for number, file in enumerate(files, 1)]


def _public_name(file: Path, number: int) -> str:
    """The name of the file, where it has well-known words only, else its number."""
    words = re.findall(r"[a-z]+|\d+", _stem(file.name).lower())
    return f"table {number} ({file.name})" if words and all(word in _PUBLIC for word in words) else f"table {number}"


def _is_own_file(file: Path) -> bool:
    """Whether it is a file, and no link that leads out of its folder: nobody has named this table."""
    return file.is_file() and file.resolve().is_relative_to(file.parent.resolve())


def _stem(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _same_kind(root: Path, first: str, others: Sequence[str]) -> bool:
    """Whether another table begins with the same line as the first: then it is another version of it."""
    lines = []
    for name in (first, *(other for other in others if other != first)):
        try:
            with (root / name).open("rb") as file:
                lines.append(file.readline(10_000))
        except OSError:
            lines.append(b"")
    return lines[0] in lines[1:]
