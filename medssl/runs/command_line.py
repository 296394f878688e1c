"""Commands as text, complete and quoted, so that a person can paste them. This module is imported by every `medssl prepare`: it imports
nothing that is heavy."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from medssl.config import full_names


def command_line(name: str, options: Mapping[str, object], sets: Sequence[str] = ()) -> str:
    """`medssl NAME` with the options that are not None, quoted for a shell: spaces, brackets and quotes may be in all of them."""
    given = [f"--{option} {shlex.quote(str(value))}" for option, value in options.items() if value is not None]
    return " ".join([f"medssl {name}", *given, *(f"--set {shlex.quote(item)}" for item in sets)])


def pretrain_after_prepare(data: str, preset: str | None, out: Path | None, sets: Sequence[str]) -> str:
    """The pretraining on what was prepared. `data`, `preset`, `out`, `sets`: the options of the preparation. A store in `out` no longer
    needs the settings of the source that it was made from."""
    kept = [item for item in full_names(sets) if not (out and item.startswith("data.source"))]
    return command_line("pretrain", {"data": out or data, "preset": preset}, kept)
