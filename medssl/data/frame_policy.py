"""Which of a file's frames, pages or slices become images: the policy `all`, `first`, `middle` or `every_N`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_EVERY = re.compile(r"every_([1-9]\d{0,5})")


def _known(policy: str) -> str:
    if policy not in ("all", "first", "middle") and not _EVERY.fullmatch(policy):
        raise ValueError(f"unknown choice {policy!r}; known: all, first, middle, every_N with a number, as in every_10")
    return policy


FramePolicy = Annotated[str, AfterValidator(_known)]


def choose_frames(policy: str, count: int) -> range:
    """The indices, ascending, that `policy` takes of `count` frames. every_N takes the middle of each N, never the first frame: a cine
    begins, and a volume ends, with little to see. Where there are fewer than N it is the middle one."""
    if policy == "all":
        return range(count)
    if policy == "first":
        return range(min(count, 1))
    every = _EVERY.fullmatch(policy)
    step = max(min(int(every[1]), count) if every else count, 1)
    return range(step // 2, count, step)
