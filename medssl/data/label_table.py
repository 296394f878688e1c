"""The labels of a store as a table for a person: each class with its images, and the images without a label."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

_PREFIX = "label:"
NO_LABEL = "unknown"  # in audit.json, of images without a label


def count_labels(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """{label: {class: images}} of a store's table, the most frequent class first."""
    names = [str(name) for name in table if str(name).startswith(_PREFIX)]
    return {
        name.removeprefix(_PREFIX): {str(value) or NO_LABEL: int(count) for value, count in table[name].value_counts().items()}
        for name in names
    }


def label_lines(labels: Mapping[str, Mapping[str, int]], counted: str = "images") -> list[str]:
    """The lines of the table. Findings (1 and 0) have a line each, and a label with classes a line for each class. `counted`: what the
    numbers count.

    >>> label_lines({"mass": {"1": 3, "0": 5}})
    ['finding     present      absent    no label', 'mass              3           5           0']
    """
    findings = {name: counts for name, counts in labels.items() if set(counts) <= {"0", "1", NO_LABEL}}
    lines = []
    if findings:
        width = max(10, *map(len, findings)) + 2
        lines.append(f"{'finding':{width - 2}}{'present':>9}{'absent':>12}{'no label':>12}")
        lines += [
            f"{name:{width - 2}}{counts.get('1', 0):>9}{counts.get('0', 0):>12}{counts.get(NO_LABEL, 0):>12}"
            for name, counts in findings.items()
        ]
    for name, counts in labels.items():
        if name in findings:
            continue
        classes = {value: number for value, number in counts.items() if value != NO_LABEL}
        width = max(10, *(len(value) for value in (name, *classes)))
        lines.append(f"{name:{width}}{counted:>9}")
        lines += [f"{value:{width}}{number:>9}" for value, number in classes.items()]
        lines.append(f"{'(no label)':{width}}{counts.get(NO_LABEL, 0):>9}")
    return lines
