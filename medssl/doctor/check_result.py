"""What a check of `medssl doctor` found: how it stands, what was seen, and what to do where it is not as it should be."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`name`: of what. `seen`: the fact, in a few words. `remedy`: a sentence for the user; "" where there is nothing to do."""

    name: str
    level: Level
    seen: str
    remedy: str = ""


def make_finding(name: str, seen: str, warning: str = "", error: str = "") -> Finding:
    """An error where there is a remedy for one, else a warning where there is a remedy for that, else ok."""
    return Finding(name, "error" if error else "warning" if warning else "ok", seen, error or warning)
