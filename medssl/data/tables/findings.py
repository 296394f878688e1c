"""Several findings of one image in a table: one cell with bars (NIH: Effusion|Mass), or one column each (CheXpert: 1, 0, -1, empty)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medssl.data.tables.columns import TableConfig, normalise_name
from medssl.types import Record

_NO_FINDING = {"nofinding", "nofindings", "normal"}
_MARKS = {"1": "1", "0": "0"}


def parse_mark(cell: str, config: TableConfig) -> str:
    """The label for a cell in the column of a finding: "1", "0", or "" for no label. Raises ValueError or KeyError for anything but 1, 0,
    -1 and an empty cell."""
    if not cell:
        return {"negative": "0", "missing": ""}[config.unmentioned]
    value = float(cell)
    if value == -1:
        return {"positive": "1", "negative": "0", "missing": ""}[config.uncertain]
    return _MARKS[f"{value:g}"]


def separate_findings(records: Sequence[Record]) -> list[Record]:
    """The records with a label "1" or "0" for each finding, in place of the label "label". The findings are all names in that label of any
    record; "No Finding" and "normal" mean 0 for all of them, and a record without that label gets none. Where no label "label" holds a
    bar, the records are unchanged."""
    cells = [[part.strip() for part in record.labels.get("label", "").split("|") if part.strip()] for record in records]
    if not any("|" in record.labels.get("label", "") for record in records):
        return list(records)
    names = sorted({name for findings in cells for name in findings if normalise_name(name) not in _NO_FINDING})
    result = []
    for record, findings in zip(records, cells, strict=True):
        other_labels = {name: value for name, value in record.labels.items() if name != "label"}
        finding_labels = {name: "1" if name in findings else "0" for name in names} if findings else {}
        result.append(replace(record, labels={**other_labels, **finding_labels}))
    return result
