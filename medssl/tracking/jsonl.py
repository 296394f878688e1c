"""metrics.jsonl: one JSON object a line, on disk before anything else sees it. It is the source of truth; MLflow is fed from it.

Every line is valid JSON: NaN and infinities, which JSON does not have, are written as null.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medssl.errors import UserError
from medssl.files import write_atomically


class JsonLines:
    """Appends rows to a file, each with a write of its own, so that a killed process loses at most the line it was writing."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            _rewrite(path, read(path))
        self._file = path.open("ab", buffering=0)
        self._waiting = b""

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a flat row of text, booleans and numbers (those of numpy and one-element tensors too).

        Raises OSError where the disk takes no more. What it did not take is kept, and written before the next row.
        """
        self._waiting += _line(row)
        self._flush()

    def close(self) -> None:
        """Raises OSError where rows are left that the disk does not take."""
        try:
            self._flush()
        finally:
            self._file.close()

    def _flush(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]


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


def rows_from(path: Path, place: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows that begin at byte `place` or later, each with the place behind it, without a last line that is still being written.

    Raises UserError for a line that is damaged. A file that is not there has no rows.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(place)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError:
                raise UserError(f"{path}, the line at byte {place}, is not JSON. Remove the line.") from None
            place += len(line)
            yield row, place


def truncate_after(path: Path, step: int) -> None:
    """Drops the rows of later steps than `step`, in one atomic exchange: a run that goes on from there writes them again."""
    if path.exists():
        _rewrite(path, [row for row in read(path) if row.get("step", 0) <= step])


def _rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    write_atomically(path, b"".join(map(_line, rows)))


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps({key: _to_json_value(value) for key, value in row.items()}, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _to_json_value(value: Any) -> str | bool | int | float | None:
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
