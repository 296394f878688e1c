"""Finding the files that the cells of a column mean: by path, by the end of a path from another machine, by name with or without suffix,
by the folder of a study or patient, or by the beginning of a name."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from medssl.data.names import in_any_spelling, readable

_SUFFIX = re.compile(r"\.(png|jpe?g|jfif|jpe|tiff?|bmp|gif|webp|dcm|dicom|ima|nii(\.gz)?|hdr|img|npy|mha|nrrd)$", re.IGNORECASE)
_SHARED_BEGINNING = re.compile(r"[A-Za-z]+[A-Za-z_\-. ]*")
_NUMBER = re.compile(r"0*(\d+?)(\.0)?")  # spreadsheets drop leading zeros, and write numbers beside an empty cell as 12.0
_PARENTS = 3  # folders above the root that a path may begin with


class Match(NamedTuple):
    """`files`: the files of each cell that means some; `several`: cells whose file is uncertain; `how`: a sentence part for a person."""

    files: Mapping[str, Sequence[str]]
    several: frozenset[str] = frozenset()
    how: str = ""


def plain_path(path: str) -> str:
    """The path in one spelling: readable text, "/" between folders, without "." and ".." where they can be resolved.

    >>> plain_path("D:\\\\x\\\\.\\\\1.png")
    'D:/x/1.png'
    """
    path = path.replace("\\", "/")
    if not path.isascii():
        path = readable(path)
    if path.startswith(".") or "/." in path or "//" in path:
        path = os.path.normpath(path) if path else path
    return path


def without_suffix(path: str) -> str:
    """The path without the suffix of an image.

    >>> without_suffix("a/1.2.840.10.nii.gz")
    'a/1.2.840.10'
    """
    return _SUFFIX.sub("", path)


def are_names_of_images(cells: Iterable[str]) -> bool:
    """Whether most of the cells end like the name of an image file."""
    cells = [cell for cell in cells if cell]
    return 2 * sum(bool(_SUFFIX.search(cell)) for cell in cells) > len(cells)


def match_numbers(cells: Iterable[str], files: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The files of each cell that names some; where none does, as numbers: 12.0 and 12 name what 0012 names, unless 12 is there, too."""
    if found := {cell: files[cell] for cell in cells if cell in files}:
        return found
    by_number: dict[str, list[str]] = defaultdict(list)
    for name in files:
        if number := _NUMBER.fullmatch(name):
            by_number[number[1]].append(name)
    numbers = {cell: number[1] for cell in cells if (number := _NUMBER.fullmatch(cell))}
    return {cell: files[by_number[number][0]] for cell, number in numbers.items() if len(by_number[number]) == 1}


class FileIndex:
    """The files below `root` (locators), for looking up what cells of a table mean. Every index is made when it is first asked for."""

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self.root = root
        self.files = files
        self._spelt = [plain_path(file) for file in files]
        self._tails: dict[tuple[str, int], dict[str, str | None]] = {}

    def has(self, cell: str) -> bool:
        """Whether the cell names one of the files, by path, name or name without suffix."""
        cell = plain_path(cell)
        name = cell.rpartition("/")[2]
        return bool(name) and (name in self._at("path", 1) or without_suffix(name) in self._at("stem", 1))

    def match_images(self, cells: Sequence[str], folder: Path) -> Match:
        """The file that each of the distinct `cells` means. `folder`: that of the table, to which a path may be relative."""
        best, places = Match({}), {cell: self._place(cell, folder) for cell in cells}
        for form, how in (
            ("path", "paths or names of files"),
            ("stem", "names of files without their suffix"),
            ("any case", "names of files without their suffix, in any case"),
            ("number", "numbers in the names of files, without leading zeros"),
            ("any spelling", "names of files without their suffix, in any spelling"),
        ):
            if form == "number" and not all(map(_NUMBER.fullmatch, cells)):
                continue
            match = self._match_form(places, form, how)
            if len(match.files) + len(match.several) > len(best.files) + len(best.several):
                best = match
            if len(best.files) + len(best.several) == len(cells) or len(best.files) >= len(self.files):
                break
        return best

    def match_folders(self, cells: Iterable[str]) -> Match:
        """The files below the folder that each cell names, with or without the beginning that all such folders have (s50414267, sub-01);
        or whose path it is, also with other folders before it."""
        files = {}
        for cell in cells:
            path = plain_path(cell).rstrip("/")
            ends = (_tail(path, level) for level in range(path.count("/") + 1, 1, -1))
            found = self._folders.get(path) or next((self._folder_paths[end] for end in ends if end in self._folder_paths), None)
            if found:
                files[cell] = found
        return Match(files, how="names of folders")

    def match_beginnings(self, cells: Iterable[str]) -> Match:
        """The files whose names begin with the cell, followed by _, -, . or a space."""
        names = self._beginnings
        return Match({cell: names[cell] for cell in cells if cell in names}, how="beginnings of the names of files")

    def _match_form(self, places: Mapping[str, str], form: str, how: str) -> Match:
        """By the end of the path that tells the cells apart; where several files have this end, by a longer one."""
        spell = _SPELLINGS[form]
        spelt = {cell: spell(place) for cell, place in places.items()}
        names = self._at(form, 1)
        if not any(path.rpartition("/")[2] in names for path in spelt.values()):
            return Match({})
        depth = _depth_that_tells_apart(list(spelt.values()))
        files, several = {}, set()
        for level in range(depth, 0, -1):
            index = self._at(form, level)
            ends = {cell: _tail(path, 2 if path.startswith("../") and level == 1 else level) for cell, path in spelt.items()}
            shared = Counter(ends.values()) if level < depth else {}  # a shorter end does not tell all cells apart
            for cell, end in ends.items():
                if end in index:
                    file = None if shared.get(end, 1) > 1 else index[end] or self._longest(spelt[cell], form, level)
                    if file is None:
                        several.add(cell)
                    else:
                        files[cell] = (file,)
            if files or several:
                break
        return Match(files, frozenset(several), how)

    def _longest(self, path: str, form: str, level: int) -> str | None:
        """The one file with the longest end in common with the path, None where there are several."""
        found = None
        for longer in range(level, path.count("/") + 2):
            index = self._at(form, longer)
            if (end := _tail(path, longer)) not in index:
                break
            found = index[end]
        return found

    def _place(self, cell: str, folder: Path) -> str:
        """The cell as a path whose end can be compared: relative ones that go up are resolved from the table's folder."""
        cell = plain_path(cell)
        if cell.startswith("../"):
            absolute = os.path.normpath(folder / cell)
            return plain_path(absolute) if absolute.startswith(f"{self.root}/") else cell
        return cell

    def _at(self, form: str, level: int) -> dict[str, str | None]:
        """{the last `level` parts of a path: its file, None where several files have them}."""
        if (form, level) not in self._tails:
            spell, above = _SPELLINGS[form], "/".join(self.root.parts[1:][-_PARENTS:])
            index: dict[str, str | None] = {}
            for file, spelt in zip(self.files, self._spelt, strict=True):
                end = _tail(f"{above}/{spell(spelt)}", level)
                index[end] = file if end not in index else None
            self._tails[form, level] = index
        return self._tails[form, level]

    @cached_property
    def _folders(self) -> Mapping[str, Sequence[str]]:
        below: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for file, spelt in zip(self.files, self._spelt, strict=True):
            for level, name in enumerate(spelt.split("/")[:-1]):
                below[level][name].append(file)
        result: dict[str, list[str]] = defaultdict(list)
        for names in below.values():
            start = os.path.commonprefix(list(names)) if len(names) > 1 else ""
            shared = _SHARED_BEGINNING.match(start)
            for name, files in names.items():
                result[name] += files
                if shared:
                    result[name[shared.end() :]] += files
        return result

    @cached_property
    def _folder_paths(self) -> Mapping[str, Sequence[str]]:
        """The files below each folder, by the last two or more parts of its path; empty where several folders have these."""
        below: dict[str, list[str]] = defaultdict(list)
        above = "/".join(self.root.parts[1:][-_PARENTS:])
        for file, spelt in zip(self.files, self._spelt, strict=True):
            for level in range(1, spelt.count("/") + 1):
                below["/".join(spelt.split("/", level)[:level])].append(file)
        result: dict[str, list[str]] = {}
        for folder, files in below.items():
            path = f"{above}/{folder}"
            for end in {_tail(path, level) for level in range(2, path.count("/") + 2)}:
                result[end] = files if end not in result else []
        return result

    @cached_property
    def _beginnings(self) -> Mapping[str, Sequence[str]]:
        result: dict[str, list[str]] = defaultdict(list)
        for file, spelt in zip(self.files, self._spelt, strict=True):
            stem = without_suffix(spelt.rpartition("/")[2])
            for found in re.finditer(r"[_\-. ]", stem):
                if found.start():
                    result[stem[: found.start()]].append(file)
        return result


def _number(path: str) -> str:
    name = without_suffix(path).rpartition("/")[2]
    number = _NUMBER.fullmatch(name)
    return in_any_spelling(number[1]) if number else name


_SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "path": str,
    "stem": without_suffix,
    "any case": lambda path: in_any_spelling(without_suffix(path), numbers=False),
    "number": _number,
    "any spelling": lambda path: in_any_spelling(without_suffix(path)),
}


def _tail(path: str, level: int) -> str:
    """The last `level` parts of a path."""
    if level == 1:
        return path.rpartition("/")[2]
    parts = path.rsplit("/", level)
    return path[len(parts[0]) + 1 :] if len(parts) > level else path


def _depth_that_tells_apart(paths: Sequence[str]) -> int:
    """How many of the last parts of the paths are needed so that different paths stay different."""
    different = len(set(paths))
    deepest = max((path.count("/") for path in paths), default=0) + 1
    for level in range(1, deepest):
        if len({_tail(path, level) for path in paths}) == different:
            return level
    return deepest
