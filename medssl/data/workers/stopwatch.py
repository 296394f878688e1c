"""How long a worker has had for what it does: the time since it began, without the time in which it waited for a core.

On a machine that many processes share, a worker may get a core for a fraction of the time only; that says nothing of its file. Linux keeps
this time for each process (/proc/PID/schedstat, in nanoseconds). Where it does not, all time counts.
"""

import contextlib
import time
from pathlib import Path


class Stopwatch:
    """The time of one process."""

    def __init__(self, pid: int) -> None:
        self._file = Path(f"/proc/{pid}/schedstat")
        self.restart()

    def restart(self) -> None:
        self._since, self._delay, self._granted = time.monotonic(), self._waited_for_a_core(), 0.0

    def seconds_left(self, limit: float) -> float:
        """Until `limit` seconds are over; less than 0 where they are."""
        left = self._since + self._granted + limit - time.monotonic()
        if left < 0:  # the file is read only where that decides
            granted = self._waited_for_a_core() - self._delay
            left, self._granted = left + granted - self._granted, granted
        return left

    def _waited_for_a_core(self) -> float:
        """Seconds since the process began; 0 where nobody knows them."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(self._file.read_text().split()[1]) / 1e9
        return 0.0
