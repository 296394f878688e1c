"""A wish to stop (Ctrl-C, docker stop, SLURM's preemption) becomes a flag, which the run reads between two steps; a second Ctrl-C ends the
process at once. A second SIGTERM does not: SLURM sends it twice within 10 ms, torchrun sends its own after the first process has ended."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SIGUSR1 is what `sbatch --signal=USR1@60` sends ahead of a time limit, SIGHUP what a closed terminal does
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequested(BaseException):
    """Raised where the flag is set within `StopFlag.interruptible`."""


class StopFlag:
    """True once a stop was asked for; `signal`: by which one, 0 before."""

    def __init__(self) -> None:
        self.signal = 0
        self._interruptible = False

    def __bool__(self) -> bool:
        return self.signal > 0

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What stands in the block may take long and changes nothing: a stop signal ends it with StopRequested."""
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
    """Within the block the signals set the flag; afterwards the former handlers are back. What is ignored (nohup) stays ignored."""
    flag = StopFlag()
    heard = [number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, flag.receive) for number in heard}
    try:
        yield flag
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
