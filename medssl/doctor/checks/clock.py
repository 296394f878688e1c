"""The clock: whether its time is possible, whether it jumps, and whether it is synchronised. Records and certificates need the time."""

import ctypes
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from medssl.doctor.check_result import CheckResult, make_result

_RELEASE_YEAR = 2026  # the year of this release: an earlier time is wrong
_WATCH_SECONDS, _JUMP_SECONDS = 0.2, 0.05
_UNSYNCHRONISED = 0x40  # STA_UNSYNC of <sys/timex.h>
_REMEDY = "Set the clock, or synchronise it: timedatectl set-ntp true (in a container: on the host)."


def check() -> Iterator[CheckResult]:
    """The time now, and how far the clock jumps in a fifth of a second."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(_WATCH_SECONDS)
    jump = (time.time() - wall) - (time.monotonic() - steady)
    yield clock(datetime.now(UTC), time.strftime("%z %Z"), jump, is_synchronised())


def clock(now: datetime, zone: str, jump: float, is_synchronised: bool | None) -> CheckResult:
    """`jump`: seconds by which the clock ran ahead of the time that passed. `is_synchronised`: None if unknown."""
    synchronised = {True: ", synchronised", False: ", not synchronised", None: ""}[is_synchronised]
    seen = f"{now:%Y-%m-%d %H:%M:%S} UTC, time zone {zone}{synchronised}"
    if now.year < _RELEASE_YEAR:
        return make_result("clock", seen, error=f"This release is of {_RELEASE_YEAR}: the clock is wrong. {_REMEDY}")
    if abs(jump) > _JUMP_SECONDS:
        return make_result("clock", f"{seen}; it jumped by {jump:+.2f} s during this check", warning=_REMEDY)
    return make_result("clock", seen, warning=f"Times of several machines may disagree. {_REMEDY}" if is_synchronised is False else "")


def is_synchronised() -> bool | None:
    """Whether the kernel's clock is synchronised (adjtimex, which changes nothing here); None if the kernel does not say."""
    try:
        state = (ctypes.c_long * 64)()  # struct timex: modes, offset, freq, maxerror, esterror, status, ...
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not ctypes.cast(ctypes.byref(state), ctypes.POINTER(ctypes.c_int))[10] & _UNSYNCHRONISED
