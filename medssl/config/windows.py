"""Windows of grey values: by a policy, by the name of a CT window, or by centre and width in HU."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from medssl.errors import suggest

# Named windows for CT, as (centre, width) in HU; the usual presets of a reading workstation
WINDOWS_HU = {"lung": (-600.0, 1500.0), "soft_tissue": (40.0, 400.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0)}
_POLICIES = ("header", "percentile", "none")
_PAIR = re.compile(r"(-?\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")


def windows_hu(window: str) -> tuple[tuple[float, float], ...]:
    """The (centre, width) in HU that `data.window` names, one a channel; empty for a policy. Raises ValueError for an unknown name."""
    if window in _POLICIES:
        return ()
    return tuple(_window_hu(part.strip()) for part in window.split(","))


def _window_hu(name: str) -> tuple[float, float]:
    if (pair := _PAIR.fullmatch(name)) and float(pair[2]) > 0:
        return float(pair[1]), float(pair[2])
    if name not in WINDOWS_HU:
        raise ValueError(f"unknown window {name!r}. {suggest(name, [*_POLICIES, *WINDOWS_HU])} Or write centre/width in HU, as -600/1500")
    return WINDOWS_HU[name]


def _join_windows(window: Any) -> Any:
    """[lung, bone] as "lung,bone"."""
    text = ",".join(map(str, window)) if isinstance(window, list | tuple) else str(window)
    if len(windows_hu(text)) > 4:
        raise ValueError("at most 4 windows, one a channel")
    return text


Window = Annotated[str, BeforeValidator(_join_windows)]
