"""Stop signals (Ctrl-C, docker stop, SLURM's preemption) set a flag, which the run reads between two steps.

A second Ctrl-C ends the process at once. A second SIGTERM does not: SLURM sends it twice within 10 ms, and torchrun sends one after the
first process has ended.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# `sbatch --signal=USR1@60` sends SIGUSR1 before a time limit. A terminal that closes sends SIGHUP, which ends no run (`medssl.output`)
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequested(BaseException):
    """Raised inside `StopFlag.interruptible` after a stop signal."""


class StopFlag:
    """True after a stop signal. `signal`: the number of the first stop signal, 0 before one has arrived."""

    def __init__(self) -> None:
        self.signal = 0
        self._interruptible = False

    def __bool__(self) -> bool:
        return self.signal > 0

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A stop signal ends the block at once, with StopRequested. Only for work that may take long and changes no state."""
        self._interruptible = True
        try:
            if self:
                raise StopRequested
            yield
        finally:
            self._interruptible = False

    def receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if self and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = self.signal or number
        if self._interruptible:
            raise StopRequested


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Within the block the stop signals set the flag; afterwards the former handlers are back. Ignored signals (nohup) stay ignored."""
    flag = StopFlag()
    handled = [number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, flag.receive) for number in handled}
    try:
        yield flag
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
