"""The errors that a user can mend: each names the thing, the reason and the remedy."""

import difflib
from collections import Counter
from collections.abc import Iterable


class UserError(ValueError):
    """The input or the configuration is wrong; ends the command with exit code 2 and its message, without a traceback."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; ends the command with exit code 128 + `signal`, 3 where it was no signal."""

    def __init__(self, message: str, signal: int = 0) -> None:
        super().__init__(message)
        self.signal = signal


class LostProcess(Exception):
    """Another process of the same training is gone; ends the command with exit code 1."""


class ReadError(Exception):
    """One image cannot be used: skipped, counted, and named in the operator's private list.

    `reason` is a short code ("truncated", "no_pixels", ...), `detail` a sentence. One string in `args`, so that it
    crosses process boundaries.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason, _, self.detail = message.partition(": ")


def count_reasons(reasons: Iterable[str]) -> str:
    """ "3 x truncated, 1 x crc": how often each reason is among `reasons`, the most frequent first."""
    return ", ".join(f"{number} x {reason}" for reason, number in Counter(reasons).most_common())


def suggest(name: str, options: Iterable[str]) -> str:
    """A sentence that names the option closest to `name`, or all options where none is close."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
