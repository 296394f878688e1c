"""What the cells of label columns mean: marks of findings, classes, several names in one cell, groups with one mark a row, numbers that
are no classes, and codes for "no label"."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from medssl.data.names import usual_spellings
from medssl.data.tables.columns import TableConfig, normalise_name

_PRESENT, _ABSENT = "1 true t yes y positive pos present +", "0 false f no n negative neg absent -"
_MARKS = {**dict.fromkeys(_PRESENT.split(), "1"), **dict.fromkeys(_ABSENT.split(), "0")}
_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_NO_FINDING = {"nofinding", "nofindings", "normal", "none", "healthy"}
_OF_CHEXPERT = (
    "nofinding enlargedcardiomediastinum cardiomegaly lungopacity lunglesion edema consolidation pneumonia atelectasis pneumothorax "
    "pleuraleffusion pleuralother fracture supportdevices"
)
_CHEXPERT = set(_OF_CHEXPERT.split())
_MAX_NUMBERS = 30  # more different numbers in a column are a quantity
_MEASURES = re.compile(r"age|days|months|years|volume|score|weight|height|size|mm|ml|cm|ratio|time|value|count")


class Label(NamedTuple):
    """A label of each row of a table: `values`, "" where the row has none. `kind`: "mark" for 1 and 0, else "class"."""

    name: str
    values: Sequence[str]
    kind: str
    note: str = ""


def plain_value(cell: str) -> str:
    """A cell without the ".0" that a table program puts behind whole numbers.

    >>> plain_value("1.0"), plain_value("01")
    ('1', '01')
    """
    found = _WHOLE.fullmatch(cell)
    return found[1] if found else cell


def missing_codes(cells: Iterable[str], config: TableConfig) -> set[str]:
    """Those of the distinct `cells` that mean "no label", the empty cell among them. "none" is a class beside words, and -1 where the
    only other label is 1."""
    cells = set(cells)
    codes = {code.casefold() for code in config.no_label}
    missing = {cell for cell in cells if not cell or plain_value(cell).casefold() in codes}
    others = {plain_value(cell) for cell in cells - missing}
    if any(not is_number(cell) and cell.casefold() not in _MARKS for cell in others):
        missing = {cell for cell in missing if cell.casefold() != "none"}
    if others == {"1"}:
        missing = {cell for cell in missing if plain_value(cell) != "-1"}
    return missing


def is_number(cell: str) -> bool:
    """Whether the cell is a number."""
    return _NUMBER.fullmatch(cell) is not None


def are_marks(cells: Iterable[str], config: TableConfig) -> bool:
    """Whether the distinct `cells` of a column say "present" or "absent", and nothing but this, a code for "no label", and -1; "present" at
    least once or "absent" at least once."""
    cells = set(cells)
    rest = {plain_value(cell).casefold() for cell in cells - missing_codes(cells, config)} - {"-1"}
    return bool(rest) and rest <= set(_MARKS)


def is_quantity(name: str, cells: Sequence[str], config: TableConfig) -> bool:
    """Whether a column holds numbers to be predicted, and no classes: many different ones, or fractions."""
    distinct = set(cells)
    numbers = {plain_value(cell) for cell in distinct - missing_codes(distinct, config)}
    if len(numbers) <= 10 or not all(map(is_number, numbers)):
        return False
    fractions = any(not re.fullmatch(r"[+-]?\d+", number) for number in numbers)
    rows = sum(map(bool, cells))
    return fractions or len(numbers) > min(_MAX_NUMBERS, rows / 3) or bool(_MEASURES.search(normalise_name(name)))


def decode_marks(columns: Mapping[str, Sequence[str]], chexpert: bool, config: TableConfig) -> list[Label]:
    """A label of "1", "0" or "" for each column of marks. `chexpert`: the columns follow CheXpert's coding, in which -1 is uncertain and an
    empty cell means that the finding is not mentioned. Raises KeyError for a cell that is no mark."""
    empty = {"negative": "0", "missing": ""}[config.unmentioned] if chexpert else ""
    uncertain = {"positive": "1", "negative": "0", "missing": ""}[config.uncertain]
    result = []
    for name, cells in columns.items():
        distinct = set(cells)
        missing = missing_codes(distinct, config)
        meaning = {cell: "" if cell in missing else _MARKS.get(plain_value(cell).casefold()) for cell in distinct}
        meaning |= {cell: uncertain for cell in distinct if plain_value(cell) == "-1"}
        meaning |= {"": empty}
        if None in meaning.values():
            raise KeyError(name)
        result.append(Label(name, [meaning[cell] or "" for cell in cells], "mark"))
    return result


def follows_chexpert(columns: Mapping[str, Sequence[str]]) -> bool:
    """Whether columns of marks follow CheXpert's coding: a cell is -1, or two of them have names of CheXpert's findings."""
    named = sum(normalise_name(name) in _CHEXPERT for name in columns)
    return named > 1 or (len(columns) > 1 and any(plain_value(cell) == "-1" for cells in columns.values() for cell in set(cells)))


def join_one_hot(marks: Sequence[Label], name: str = "label") -> Label | None:
    """One label with classes from columns of which each row marks exactly one; None where a row marks none or several."""
    if len(marks) < 2:
        return None
    values = []
    for row in zip(*(label.values for label in marks), strict=True):
        if row.count("1") != 1 or row.count("0") != len(row) - 1:
            return None
        values.append(marks[row.index("1")].name)
    if len(set(values)) < 2:
        return None
    return Label(name, values, "class", f"the {len(marks)} columns of which each row marks exactly one are one label with classes")


def split_lists(cells: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    """The names in each distinct cell, where the cells of a column hold lists: ['a', 'b'] in brackets, or names with |, ; or commas
    between. None for a column of single names. An empty cell has no names. With ; and commas, names must occur again in other cells:
    "Grade 2, mild" is one name."""
    distinct = {cell for cell in cells if cell}
    if distinct and all(cell.startswith("[") and cell.endswith("]") for cell in distinct):
        return {cell: _in_brackets(cell) for cell in distinct}
    for separator in ("|", ";", ","):
        if not any(separator in cell for cell in distinct):
            continue
        parts = {cell: tuple(part.strip() for part in cell.split(separator) if part.strip()) for cell in distinct}
        used = Counter(part for names in parts.values() for part in names)
        again = len(used) <= len(distinct) and any(used[part] > 1 for cell in distinct if separator in cell for part in parts[cell])
        if separator == "|" or again:
            return parts
    return None


def decode_lists(name: str, column: str, cells: Sequence[str], lists: Mapping[str, tuple[str, ...]]) -> list[Label]:
    """A label of "1" and "0" for each name in the lists. "No Finding" and "normal" mean 0 for all of them, as the list [] does; a row with
    an empty cell has no label. Where every list holds exactly one name, one label with classes."""
    if all(len(names) == 1 for names in lists.values()):
        return [Label(name, [lists[cell][0] if cell else "" for cell in cells], "class")]
    spelling = usual_spellings(Counter(part for names in lists.values() for part in names))
    found = {cell: {spelling[part] for part in names} for cell, names in lists.items()}
    names = sorted({spelling[part] for parts in lists.values() for part in parts if normalise_name(part) not in _NO_FINDING})
    note = f"cells of {column!r} hold several names: {len(names)} labels, each present or not"
    labels = []
    for finding in names:
        meaning = {cell: "1" if finding in parts else "0" for cell, parts in found.items()} | {"": ""}
        labels.append(Label(finding, [meaning[cell] for cell in cells], "mark", note if finding == names[0] else ""))
    return labels


def decode_classes(name: str, column: str, cells: Sequence[str], config: TableConfig) -> Label:
    """One label of classes. Codes for "no label" become ""; several spellings of marks, such as yes, Y and no, become "1" and "0"."""
    distinct = set(cells)
    missing = missing_codes(distinct, config)
    meaning = {cell: plain_value(cell) for cell in distinct - missing} | dict.fromkeys(missing, "")
    coded = sum(cell in missing and cell != "" for cell in cells)
    note = f"{coded} cells of {column!r} hold a code for 'no label' (data.source.no_label)" if coded else ""
    marks = {cell.casefold() for cell in meaning.values() if cell}
    if marks <= set(_MARKS) and (marks <= {"0", "1"} or len(marks) > 2):
        return Label(name, [_MARKS[cell.casefold()] if cell else "" for cell in map(meaning.__getitem__, cells)], "mark", note)
    return Label(name, [meaning[cell] for cell in cells], "class", note)


def unify_names(names: Counter[str]) -> tuple[dict[str, str], str]:
    """{name: its most frequent spelling} for names that differ in their spelling only (`in_any_spelling`), and a sentence on them ("" where
    there are none)."""
    spelling = {name: usual for name, usual in usual_spellings(names).items() if name != usual}
    if not spelling:
        return {}, ""
    classes = len(set(spelling.values()))
    what = "1 class is" if classes == 1 else f"{classes} classes are"
    ways = f"{len(spelling) + classes} ways that differ in case, spaces, forms of letters or zeros before a number only"
    return spelling, f"{what} written in {ways}: counted as one each"


def _in_brackets(cell: str) -> tuple[str, ...]:
    for parse in (ast.literal_eval, json.loads):
        try:
            found = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return tuple(str(part).strip() for part in found if str(part).strip())
    return tuple(part for word in cell[1:-1].split(",") if (part := word.strip().strip("'\"")))
