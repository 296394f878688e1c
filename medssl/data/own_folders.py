"""Telling what medssl has written from the user's data: run folders, studies, stores and their unfinished parts, the cache, predictions.

A user may write them into the folder of the images. They must not become training images, a class or labels at the next start.
"""

from collections.abc import Collection
from pathlib import Path

_DESCRIPTIONS = ("config.yaml", "study.yaml")
_FIRST_BYTES = b"# medssl "  # of every description that medssl writes
_PREDICTIONS = b"file,index,patient,prob_"  # as the table of `medssl predict` begins
_STORE = {"images.npy", "table.parquet"}
_CACHE = {"site.key", "private", "splits"}  # beside the folder stores


def is_own(folder: Path, names: Collection[str]) -> bool:
    """Whether medssl has written this folder. `names`: those of its entries. A name of a folder says nothing: a user may have chosen it."""
    names = set(names)
    if names >= _STORE or ("stores" in names and names & _CACHE):
        return True
    if folder.suffix == ".chunks" and all(name.endswith((".chunk", ".partial")) for name in names):
        return True
    return any(name in names and _begins_with(folder / name, _FIRST_BYTES) for name in _DESCRIPTIONS)


def is_own_table(file: Path) -> bool:
    """Whether the file is a table of predictions that medssl has written."""
    return file.suffix == ".csv" and _begins_with(file, _PREDICTIONS)


def _begins_with(file: Path, start: bytes) -> bool:
    try:
        if not file.is_file():  # opening a pipe would block
            return False
        with file.open("rb") as stream:
            return stream.read(len(start)) == start
    except OSError:
        return False
