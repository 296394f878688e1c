"""Several findings of one image in a table: names with bars between (NIH: Effusion|Mass), or a column each (CheXpert: 1, 0, -1, empty)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medssl.data.tables.columns import TableConfig, normalise_name
from medssl.types import Record

_NOTHING = {"nofinding", "nofindings", "normal"}
_MARKS = {"1": "1", "0": "0"}


def parse_mark(cell: str, config: TableConfig) -> str:
    """ "1", "0", or "" for no label: what a cell of a finding's column counts as. Raises ValueError for anything but 1, 0, -1 and empty."""
    if not cell:
        return {"negative": "0", "missing": ""}[config.unmentioned]
    value = float(cell)
    if value == -1:
        return {"positive": "1", "negative": "0", "missing": ""}[config.uncertain]
    return _MARKS[f"{value:g}"]


def separate_findings(records: Sequence[Record]) -> list[Record]:
    """`records` as they are where no label "label" holds a bar; else with a label "1" or "0" for each finding that any of them names.
    "No Finding" and "normal" are 0 everywhere, and an image without a label stays without one."""
    said = [[part.strip() for part in record.labels.get("label", "").split("|") if part.strip()] for record in records]
    if not any("|" in record.labels.get("label", "") for record in records):
        return list(records)
    names = sorted({name for findings in said for name in findings if normalise_name(name) not in _NOTHING})
    result = []
    for record, findings in zip(records, said, strict=True):
        others = {name: value for name, value in record.labels.items() if name != "label"}
        own = {name: "1" if name in findings else "0" for name in names} if findings else {}
        result.append(replace(record, labels={**others, **own}))
    return result
