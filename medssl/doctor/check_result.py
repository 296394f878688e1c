"""The result of one check of `medssl doctor`: its level, what was seen, and the remedy."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`name`: what was checked. `seen`: the fact, in a few words. `remedy`: a sentence for the user; "" if there is nothing to do."""

    name: str
    level: Level
    seen: str
    remedy: str = ""


def make_result(name: str, seen: str, warning: str = "", error: str = "") -> CheckResult:
    """A result at the level "error" if `error` is not empty, else "warning" if `warning` is not empty, else "ok". `warning` and `error` are
    the remedies."""
    return CheckResult(name, "error" if error else "warning" if warning else "ok", seen, error or warning)
