"""The labels that the columns of one table give, row by row, and what was understood, for a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from medssl.data.tables import coding
from medssl.data.tables.coding import Label
from medssl.data.tables.columns import Columns, TableConfig, choose_column, is_box, may_be_mark, may_name_images, role_of_name
from medssl.data.tables.reading import Table, refuse_control_characters
from medssl.errors import UserError

_MAX_CLASSES = 20  # of a column that is taken as the label without a name that says so
_VECTOR = re.compile(r"\[[\d.,\s]*\]")


class Labels(NamedTuple):
    """`found`: the labels of the rows; `notes`: what a person should know of how they were understood; `certain`: False for a column that
    was taken as the label without a name that says so."""

    found: list[Label]
    notes: list[str]
    certain: bool


def read_labels(table: Table, columns: Columns, config: TableConfig) -> Labels:
    """The labels of a table. Columns that are labels by their names come first; without them, columns of marks (1 and 0, yes and no), else
    the one column with a few classes.

    Raises UserError for a column that the user has named and that holds numbers, no classes; and in CheXpert's tables for a finding with
    another mark than 1, 0 or -1.
    """
    notes: list[str] = []
    by_name = _without_numbers(table, [*columns.label, *columns.further], config, notes)
    main = _without_copies(table, [column for column in by_name if column in columns.label], notes)
    labels = []
    for column in main:
        labels += _decode(table, column, "label" if len(main) == 1 else column, config, True)
    further = [column for column in by_name if column in columns.further]
    labels += _decode_further(table, further, config)
    certain = bool(labels or columns.chexpert)
    marks, chexpert = columns.chexpert, bool(columns.chexpert)
    if not labels and not marks:
        marks = _find_marks(table, columns.others, config)
        chexpert = coding.follows_chexpert({column: table.column(column) for column in marks})
    labels += _decode_findings(table, marks, chexpert, config, notes)
    certain = certain or len(marks) > 1
    if not labels:
        labels += _guess(table, columns.others, config, notes)
    for column in _without_numbers(table, columns.named, config, notes):
        if column not in {label.name for label in labels}:
            labels += _decode(table, column, column, config, False)
    return Labels(labels, [*notes, *(label.note for label in labels if label.note)], certain)


def _without_numbers(table: Table, names: Sequence[str], config: TableConfig, notes: list[str]) -> list[str]:
    """The columns that hold no quantity. A note names the others; raises UserError for one that the user has named."""
    result = []
    for column in dict.fromkeys(names):
        cells = table.column(column)
        if coding.is_quantity(column, cells, config):
            sentence = (
                f"column {column!r} holds {len(set(cells))} different numbers, which are a quantity and no classes: not used as a label. "
                "medssl learns classes: add a column with ranges of the number, or with a word before it if they are classes"
            )
            if column in config.labels:
                raise UserError(f"{table.name}: {sentence[0].upper()}{sentence[1:]}.")
            notes.append(sentence)
        elif all(_VECTOR.fullmatch(cell) for cell in set(cells)) and set(cells) != {"[]"} and column not in config.labels:
            notes.append(f"column {column!r} holds lists of numbers: not used as a label")
        else:
            result.append(column)
    return result


def _without_copies(table: Table, names: list[str], notes: list[str]) -> list[str]:
    """The columns without those that say the same as another one in other words, such as class_id beside class_name: words stay."""
    words = sorted(names, key=lambda column: all(map(coding.is_number, set(table.column(column)) - {""})))
    kept: list[str] = []
    for column in words:
        cells = table.column(column)
        twin = next((other for other in kept if _say_the_same(cells, table.column(other))), None)
        if twin is None:
            kept.append(column)
        else:
            notes.append(f"column {column!r} says the same as {twin!r}: not used as a label")
    return [column for column in names if column in kept]


def _say_the_same(one: Sequence[str], other: Sequence[str]) -> bool:
    pairs = set(zip(one, other, strict=True))
    return len(pairs) > 1 and len(pairs) == len(set(one)) == len(set(other))


def _decode(table: Table, column: str, name: str, config: TableConfig, may_be_lists: bool) -> list[Label]:
    cells = table.column(column)
    refuse_control_characters(table, table.column(column), "label")
    missing = coding.missing_codes(cells, config)
    lists = coding.split_lists([cell for cell in cells if cell not in missing]) if may_be_lists else None
    if lists:
        return coding.decode_lists(name, column, ["" if cell in missing else cell for cell in cells], lists)
    return [coding.decode_classes(name, column, cells, config)]


def _decode_further(table: Table, names: list[str], config: TableConfig) -> list[Label]:
    """The columns called label_...: findings where all of them are marks, else classes."""
    cells = {column: table.column(column) for column in names}
    for column in names:
        refuse_control_characters(table, table.column(column), "label")
    if len(cells) > 1 and all(coding.are_marks(values, config) for values in cells.values()):
        marks = coding.decode_marks(cells, False, config)
        joined = coding.join_one_hot(marks)
        return [joined] if joined and len(marks) > 2 else marks
    return [coding.decode_classes(column, column, cells[column], config) for column in names]


def _find_marks(table: Table, names: Sequence[str], config: TableConfig) -> list[str]:
    """The columns of marks whose names do not say that they are something else."""
    able = [column for column in names if may_be_mark(column) and not is_box(column)]
    marks = {column for column in able if coding.are_marks(table.column(column), config)} if table.headed else set()
    uncertain = {column for column in able if marks and {coding.plain_value(cell) for cell in set(table.column(column))} <= {"-1", ""}}
    uncertain = {column for column in uncertain if any(table.column(column))}
    return [column for column in able if column in marks | uncertain]


def _decode_findings(table: Table, names: Sequence[str], chexpert: bool, config: TableConfig, notes: list[str]) -> list[Label]:
    """Labels of columns for one finding each; one label with classes where each row marks exactly one of them."""
    if not names:
        return []
    cells = {column: table.column(column) for column in names}
    try:
        marks = coding.decode_marks(cells, chexpert, config)
    except KeyError as error:
        column = str(error.args[0])
        row = next(row for row, cell in zip(table.rows, table.column(column), strict=True) if not _is_mark(cell, config))
        raise UserError(
            f"{table.name}, row {row}: the finding {column!r} is marked with something other than 1, 0, -1 or nothing. Correct it."
        ) from None
    if not chexpert and (joined := coding.join_one_hot(marks)):
        return [joined]
    if chexpert:
        notes.append(
            f"{len(names)} findings marked 1, 0, -1 or not at all: -1 counts as {config.uncertain} (data.source.uncertain), an empty cell "
            f"as {config.unmentioned} (data.source.unmentioned)"
        )
    return marks


def _is_mark(cell: str, config: TableConfig) -> bool:
    return not cell or coding.plain_value(cell) == "-1" or coding.are_marks([cell, "1"], config)


def _guess(table: Table, names: Sequence[str], config: TableConfig, notes: list[str]) -> list[Label]:
    """The only column with a few classes, each of several rows; none where there are several such columns, with a note that names them."""
    able = []
    for column in names:
        cells = table.column(column)
        known = [cell for cell in cells if cell not in coding.missing_codes(set(cells), config)]
        few = 2 <= len(set(known)) <= min(_MAX_CLASSES, len(known) / 3)
        if not column or may_name_images(column) or role_of_name(column) or is_box(column) or not few or not may_be_mark(column):
            continue
        if not coding.is_quantity(column, cells, config) and not (len(set(known)) > 5 and all(map(coding.is_number, set(known)))):
            able.append(column)
    if len(able) == 1 and table.headed:
        notes.append(f"column {able[0]!r} is taken as the label: no other column holds classes")
        return _decode(table, able[0], able[0], config, False)
    if able:
        count = "the column" if len(able) == 1 else f"{len(able)} columns"
        listed = ", ".join(able[:10])
        notes.append(
            f"no column is the label by its name, but {count} could be: {listed}. Choose it with {choose_column('label', able[0])}"
        )
    return []
