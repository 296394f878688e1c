"""A wish to stop (SIGINT, SIGTERM) becomes a flag, which the run reads between two steps; a second wish ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """True once a stop was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Within the block SIGINT and SIGTERM set the flag; afterwards the former handlers are back."""
    flag = StopFlag()

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        if flag.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        flag.asked = True

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
