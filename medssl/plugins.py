"""Plug-ins are files: `find("methods", "pnnclr")` imports `medssl/methods/pnnclr.py`, `names("methods")` lists the folder.

A kind is a dotted package below `medssl` ("methods", "data.sources", "views.recipes", ...). Every plug-in module holds its own
pydantic `Config`, whose field `name` defaults to the file's name, and a function `build`.
"""

import importlib
from pathlib import Path
from types import ModuleType

from medssl.errors import UserError, suggest

_ROOT = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The names of all plug-ins of a kind, sorted."""
    folder = _ROOT.joinpath(*kind.split("."))
    return sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))


def find(kind: str, name: str) -> ModuleType:
    """The plug-in module of that name. Raises UserError with the most similar name if there is none."""
    known = names(kind)
    if name not in known:
        what = kind.rsplit(".", 1)[-1].rstrip("s")
        raise UserError(f"Unknown {what} {name!r}. {suggest(name, known)}")
    return importlib.import_module(f"medssl.{kind}.{name}")
