"""metrics.jsonl: one JSON object a line, on disk before anything else sees it. It is the source of truth; MLflow is fed from the same rows.

Every line is valid JSON: NaN and infinities, which JSON does not have, are written as null.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.errors import UserError


class JsonLines:
    """Appends rows to a file, one flushed line each, so that a killed process loses at most the line it was writing."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            _rewrite(path, read(path))
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a flat row of text, booleans and numbers (those of numpy and one-element tensors too)."""
        self._file.write(_line(row))

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """All rows; a last line that was torn by a kill is left out. Raises UserError where any other line is damaged."""
    rows: list[dict[str, Any]] = []
    text = path.read_text("utf-8", errors="replace")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines) and not text.endswith("\n"):
                break
            raise UserError(f"{path}, line {number}, is not JSON ({error.msg}). Remove the line, or start the run afresh.") from None
    return rows


def truncate_after(path: Path, step: int) -> None:
    """Drops the rows of later steps than `step`, in one atomic exchange: a run that goes on from there writes them again."""
    if path.exists():
        _rewrite(path, [row for row in read(path) if row.get("step", 0) <= step])


def _rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    draft = path.with_name(f".{path.name}.part")
    with draft.open("w", encoding="utf-8") as file:
        file.writelines(_line(row) for row in rows)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({key: _plain(value) for key, value in row.items()}, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> str | bool | int | float | None:
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
