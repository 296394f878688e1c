"""The file of results: one JSON line for each measurement, on the disk before the next one begins."""

import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent.parent


class Record:
    """Runs measurements and writes their results into `file`. `limit`: after so many seconds no measurement begins. `only`: the beginnings
    of the names of the measurements to run; empty for all. `failed`: the names of those that ended in an error or were not
    ok. `rows`: the results by their names."""

    def __init__(self, file: Path, limit: float, only: Sequence[str] = ()) -> None:
        self._file, self._limit, self._only = file, limit, tuple(only)
        self._begin = time.monotonic()
        self.rows: dict[str, Row] = {}
        self.failed: list[str] = []
        self.skipped: list[str] = []
        file.parent.mkdir(parents=True, exist_ok=True)

    def write(self, what: str, row: Row) -> None:
        """Append one line, and wait until it is on the disk. Numbers that are not finite become text, as JSON has none."""
        line = json.dumps(_plain({"what": what, "at_s": round(time.monotonic() - self._begin, 2), **row}), allow_nan=False, default=str)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)

    def measure(self, what: str, work: Callable[..., Row], *arguments: Any, **options: Any) -> None:
        """One measurement. An error is a result, too: the next measurement follows."""
        if self._only and not what.startswith(self._only):
            return
        begin = time.monotonic()
        if begin - self._begin > self._limit:
            self.skipped.append(what)
            return
        try:
            row = work(*arguments, **options)
        except Exception as error:
            places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            row = {"ok": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}", "where": places[-4:]}
        if not row.get("ok", True):
            self.failed.append(what)
        self.rows[what] = row
        self.write(what, {**row, "seconds": round(time.monotonic() - begin, 2)})
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def finish(self) -> None:
        """The last line: what failed, and what was not begun for lack of time."""
        self.write("end", {"failed": self.failed, "not_begun": self.skipped})


def machine(device: torch.device) -> Row:
    """The device, the versions and the commit that the results belong to."""
    row = {"device": "CPU", "torch": torch.__version__, "python": sys.version.split()[0], "cores": os.cpu_count(), "commit": _commit()}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        row |= {"device": card.name, "GiB": round(card.total_memory / 2**30, 1), "processors": card.multi_processor_count}
        row |= {"CUDA": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": _said("nvidia-smi", *_DRIVER).split("\n")[0]}
    return row


_DRIVER = ("--query-gpu=driver_version", "--format=csv,noheader")


def _commit() -> str:
    return os.environ.get("COMMIT") or _said("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown"


def _said(*line: str) -> str:
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _plain(value: Any) -> Any:
    """The value with short numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    return value
