"""The clock: whether it can be right, runs evenly, and is kept right. Records carry its time, and certificates are judged by it."""

import ctypes
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from medssl.doctor.finding import Finding, make_finding

_RELEASED = 2026  # the year of this release: no clock can be before it
_LOOK_SECONDS, _JUMP_SECONDS = 0.2, 0.05
_UNSYNCHRONISED = 0x40  # STA_UNSYNC of <sys/timex.h>
_REMEDY = "Set it, or let it be kept: timedatectl set-ntp true (in a container: on the host)."


def check() -> Iterator[Finding]:
    """Now, and over a fifth of a second."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(_LOOK_SECONDS)
    jump = (time.time() - wall) - (time.monotonic() - steady)
    yield clock(datetime.now(UTC), time.strftime("%z %Z"), jump, kept())


def clock(now: datetime, zone: str, jump: float, kept: bool | None) -> Finding:
    """`jump`: seconds by which it ran ahead of the time that passed. `kept`: whether something keeps it right, None where unknown."""
    said = {True: ", kept right", False: ", kept right by nobody", None: ""}[kept]
    seen = f"{now:%Y-%m-%d %H:%M:%S} UTC, time zone {zone}{said}"
    if now.year < _RELEASED:
        return make_finding("clock", seen, error=f"This release is of {_RELEASED}: the clock is wrong. {_REMEDY}")
    if abs(jump) > _JUMP_SECONDS:
        return make_finding("clock", f"{seen}; it jumped by {jump:+.2f} s while it was looked at", warning=_REMEDY)
    return make_finding("clock", seen, warning=f"Times of several machines may disagree. {_REMEDY}" if kept is False else "")


def kept() -> bool | None:
    """What the kernel says of its clock (adjtimex, changing nothing); None where it says nothing."""
    try:
        state = (ctypes.c_long * 64)()  # struct timex: modes, offset, freq, maxerror, esterror, status, ...
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not ctypes.cast(ctypes.byref(state), ctypes.POINTER(ctypes.c_int))[10] & _UNSYNCHRONISED
