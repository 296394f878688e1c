"""The output of a command: messages, warnings, and progress as a bar on a terminal or as plain lines in a log file.

Text from outside (file names, labels, error messages) can neither fake a line nor move the cursor: see `printable`.
"""

import math
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.1
_LEVEL, _NAME = 9, 15  # columns of a verdict
_TIMES_LEFT = {"seconds_left": "about", "seconds_left_at_least": "at least"}
_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@dataclass
class _Task:
    """A task in progress. `begin`: the time of its start; `first`: its count then; `shown`: the time when it was last shown; `facts`: its
    last values; `timed_from`: time and count after the first piece of work, which is slower than the others; `bar`: its progress bar."""

    begin: float
    first: int
    shown: float
    timed_from: tuple[float, int] | None = None
    facts: dict[str, float] = field(default_factory=dict)
    bar: TaskID | None = None

    def time_left(self, now: float, done: int, total: int) -> str:
        """The time that the task gives, else the one that follows from the pieces of work done so far; "" before any was timed."""
        for name, words in _TIMES_LEFT.items():
            if name in self.facts:
                seconds = self.facts[name]
                return f"{words} {format_duration(seconds)} left" if math.isfinite(seconds) else ""
        if self.timed_from is None or done <= self.timed_from[1]:
            return ""
        begin, first = self.timed_from
        return f"about {format_duration((now - begin) / (done - first) * (total - done))} left"


class Console:
    """A `medssl.types.Reporter`. Used as a context manager, which always closes the progress bar at the end.

    Of several processes (`rank` of `size`) only the first prints messages; the others print only the reason of a failure.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self._silent, self._who = rank > 0, f"process {rank} of {size}: " if size > 1 else ""
        self._out = Terminal(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._err = Terminal(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)
        self._bars = _bars(self._out) if self._out.is_interactive and sys.stdout.isatty() else None
        if self._bars and sys.stderr.isatty():
            self._err = self._out  # one terminal: messages must be printed above the bar, not into it
        self._tasks: dict[str, _Task] = {}

    def say(self, text: str) -> None:
        """A message on the standard output."""
        if self._silent:
            return
        self._out.print(printable(text))

    def warn(self, text: str) -> None:
        """A message on the standard error, yellow on a terminal."""
        if self._silent:
            return
        self._err.print(Text(f"warning: {printable(text)}", "yellow"))

    def fail(self, text: str) -> None:
        """The one message of a command that failed, red on a terminal."""
        self._err.print(Text(f"error: {self._who}{printable(text)}", "red"))

    def verdict(self, level: str, name: str, text: str) -> None:
        """A line of a report: `level` ("ok", "warning" or "error"), the `name` of what was checked, and a text. On a terminal the level has
        a colour and the text is wrapped."""
        if self._silent:
            return
        margin = " " * (_LEVEL + _NAME)
        lines = printable(text).split("\n")
        if self._out.is_terminal:
            room = max(40, self._out.width - len(margin))
            lines = [part for line in lines for part in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)]
        head = Text.assemble((f"{level:{_LEVEL}}", _COLOURS.get(level, "")), f"{printable(name):{_NAME - 1}} ")
        self._out.print(head + Text(f"\n{margin}".join(line.strip() for line in lines)))

    def progress(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        """Show the state of a task: on a terminal at most ten times a second, elsewhere one line every ten seconds and one at the end.

        `facts` ("epoch", "loss", "knn", "images_per_second", ...) are kept until newer values replace them. The time left follows from the
        mean speed, unless the task gives "seconds_left" (NaN while it is not known) or "seconds_left_at_least".
        """
        if self._silent:
            return
        now = time.monotonic()
        state = self._tasks.setdefault(task, _Task(now, done, -math.inf if self._bars else now))
        if state.timed_from is None and done > state.first:
            state.timed_from = now, done
        state.facts = {name: value for name, value in state.facts.items() if name not in _TIMES_LEFT} | dict(facts or {})
        if done >= total:
            self._close(task)
            self.say("  ".join([f"{task:8}", f"{done}/{total}", *format_facts(state.facts), f"in {format_duration(now - state.begin)}"]))
        elif now - state.shown >= (_SECONDS_BETWEEN_FRAMES if self._bars else _SECONDS_BETWEEN_LINES):
            state.shown = now
            words = [word for word in (*format_facts(state.facts), state.time_left(now, done, total)) if word]
            if self._bars:
                self._draw(self._bars, task, done, total, words)
            else:
                self.say("  ".join([f"{task:8}", f"{done}/{total}", *words]))

    def _draw(self, bars: Progress, task: str, done: int, total: int, words: list[str]) -> None:
        state = self._tasks[task]
        if state.bar is None:
            state.bar = bars.add_task(f"{printable(task):8}", total=total, words="")
        bars.update(state.bar, completed=done, total=total, words="  ".join(words))
        bars.start()
        bars.refresh()

    def _close(self, task: str) -> None:
        bar = self._tasks.pop(task).bar
        if self._bars and bar is not None:
            self._bars.remove_task(bar)
            self._bars.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars:
            self._bars.stop()


def printable(text: str) -> str:
    """`text` with control, formatting and undecodable characters escaped, and with every line but the first indented by two or more."""
    first, *others = ("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) for line in text.split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in others)])


def format_facts(facts: Mapping[str, float]) -> list[str]:
    """`{"epoch": 13, "loss": 4.1957, "images_per_second": 55.12}` as ["epoch 13", "loss 4.196", "55.1 images/s"]."""
    return [_fact(name, float(value)) for name, value in facts.items() if name not in _TIMES_LEFT]


def _fact(name: str, value: float) -> str:
    if name.endswith("_per_second"):
        return f"{value:.1f} {name.removesuffix('_per_second')}/s"
    return f"{name.replace('_', ' ')} {value:.0f}" if value.is_integer() else f"{name.replace('_', ' ')} {value:.4g}"


def format_duration(seconds: float) -> str:
    """130 seconds as "2:10", 3 hours as "3:00:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bars(terminal: Terminal) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}", markup=False),
        TextColumn("{task.fields[words]}", markup=False),
        console=terminal,
        auto_refresh=False,  # without rich's thread, which would not work in forked processes
        redirect_stderr=sys.stderr.isatty(),
    )
