"""The standard output and error of the process, made so that they never end a run: a log on a full disk, `| head`, a `tee` that died, a
terminal that was closed.

What cannot be written any more is given up, and the run goes on. The reason stands in the run folder, in `console.txt`.
"""

import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REASONS = "console.txt"
_lost: list[str] = []
_folders: list[Path] = []


class LastingOutput(io.FileIO):
    """A standard stream by its number. After the first write that fails, it writes into nothing."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(number, "wb", closefd=False)
        self._called = name

    def write(self, content: Any) -> int:
        """All bytes are taken: those that cannot be written are given up."""
        while True:
            try:
                written = super().write(content)
            except OSError as error:
                self._give_up(error)
                return memoryview(content).nbytes
            if written is not None:
                return written
            select.select([], [self.fileno()], [])  # a pipe that does not wait is full

    def _give_up(self, error: OSError) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())  # for libraries in C, too
        os.close(nothing)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        _lost.append(f"{now} The {self._called} cannot be written any more: {error.strerror}. The run goes on without messages there.\n")
        for folder in _folders:
            _write_reasons(folder, _lost[-1:])


def make_lasting() -> None:
    """Replaces sys.stdout and sys.stderr where they are the real ones, and lets a terminal that closes end nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number, name, called in ((1, "stdout", "standard output"), (2, "stderr", "standard error")):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue  # closed from the start, or already another one
        stream.flush()
        raw, lines, at_once = LastingOutput(number, called), stream.line_buffering or number == 2, stream.write_through
        buffer = raw if at_once else io.BufferedWriter(raw)  # PYTHONUNBUFFERED
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines, write_through=at_once))


@contextmanager
def reasons_kept_in(folder: Path) -> Iterator[None]:
    """Within the block the reason why an output was given up is written into this run folder, also where that was before the block."""
    _folders.append(folder)
    try:
        if _lost:
            _write_reasons(folder, _lost)
        yield
    finally:
        _folders.remove(folder)


def _write_reasons(folder: Path, sentences: list[str]) -> None:
    with contextlib.suppress(OSError), (folder / REASONS).open("a", encoding="utf-8") as file:
        file.writelines(sentences)
