"""metrics.jsonl: one JSON object in each line. A row is written to this file first, and sent from there to MLflow.

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
    """Appends rows to a file, each with one write, so a killed process loses at most the row that it was writing."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            _rewrite(path, read(path))
        self._file = path.open("ab", buffering=0)
        self._unwritten = b""

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a flat row of text, booleans and numbers (also numpy numbers and tensors with one element).

        Raises OSError if the disk is full. The unwritten part is kept, and written before the next row.
        """
        self._unwritten += _line(row)
        self._flush()

    def close(self) -> None:
        """Close the file. Raises OSError if some rows cannot be written."""
        try:
            self._flush()
        finally:
            self._file.close()

    def _flush(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]


def read(path: Path) -> list[dict[str, Any]]:
    """All rows; an incomplete last line (after a kill) is left out. Raises UserError if any other line is damaged."""
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


def rows_from(path: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows from byte `offset` on, each with the offset of the next row; an incomplete last line is left out.

    Raises UserError for a damaged line. A file that does not exist has no rows.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError:
                raise UserError(f"{path}, the line at byte {offset}, is not JSON. Remove the line.") from None
            offset += len(line)
            yield row, offset


def truncate_after(path: Path, step: int) -> None:
    """Delete the rows after `step` (the file is replaced as a whole): a run that resumes from that step writes them again."""
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
