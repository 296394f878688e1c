"""The errors of medssl. A message for the user names the thing, the reason and the remedy."""

import difflib
from collections import Counter
from collections.abc import Iterable

ZERO_FOR_NAN = "If NaN stands for the background, take it as 0: --set data.non_finite=zero"


class UserError(ValueError):
    """The input or the configuration is wrong. The command ends with the message and exit code 2, without a traceback."""


class Interrupted(Exception):
    """A stop signal ended the run after it saved its state. The command ends with exit code 128 + `signal`, or 3 without a signal."""

    def __init__(self, message: str, signal: int = 0) -> None:
        super().__init__(message)
        self.signal = signal


class LostProcess(Exception):
    """Another process of the same training has ended. The command ends with exit code 1."""


class ReadError(Exception):
    """One image cannot be used. It is skipped, counted, and named in the operator's private list.

    `message` is "reason: detail": a short code ("truncated", "no_pixels", ...) and a sentence. As the only argument is a string, the error
    can be sent between processes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason, _, self.detail = message.partition(": ")


def count_reasons(reasons: Iterable[str]) -> str:
    """The number of times that each reason occurs, the most frequent first: "3 x truncated, 1 x crc"."""
    return ", ".join(f"{number} x {reason}" for reason, number in Counter(reasons).most_common())


def suggest(name: str, options: Iterable[str]) -> str:
    """A sentence with the option most similar to `name`, or with all options if none is similar."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
