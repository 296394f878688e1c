"""Selecting the frames, pages or slices of a file that become images, by a policy: `all`, `first`, `middle` or `every_N`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_EVERY = re.compile(r"every_([1-9]\d{0,5})")


def _check_policy(policy: str) -> str:
    if policy not in ("all", "first", "middle") and not _EVERY.fullmatch(policy):
        raise ValueError(f"unknown choice {policy!r}; known: all, first, middle, every_N with a number, as in every_10")
    return policy


FramePolicy = Annotated[str, AfterValidator(_check_policy)]


def choose_frames(policy: str, count: int) -> range:
    """The indices, ascending, of the frames that `policy` selects of `count`. every_N selects the middle one of each N frames, because the
    first frames of a cine and the ends of a volume show little. Of fewer than N frames the middle one is selected."""
    if policy == "all":
        return range(count)
    if policy == "first":
        return range(min(count, 1))
    every = _EVERY.fullmatch(policy)
    step = max(min(int(every[1]), count) if every else count, 1)
    return range(step // 2, count, step)
