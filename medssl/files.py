"""Files that are either whole or not there: each is written as a draft beside its place, synced, and renamed."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medssl.errors import UserError

_DRAFT = ".medssl-draft"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the place and name of `path` at the end of the block.

    After an error nothing is left of it; after a kill only a draft, which no reader takes for the file. Raises UserError where the
    file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}{_DRAFT}")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            raise UserError(cannot_write(path, error)) from None
        raise
    _sync(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for half of it. Raises UserError where it cannot be written."""
    with atomic_file(path) as file:
        file.write(content)


def is_draft(path: Path) -> bool:
    """Whether this is what a kill left of a file that was being written."""
    return path.name.endswith(_DRAFT)


def cannot_write(path: Path, error: OSError) -> str:
    """A sentence for the user: what could not be written, as whom, why, and how much space there is where it is space that lacks."""
    sentence = f"Cannot write {path} as user {os.getuid()}: {error.strerror}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next(folder for folder in path.absolute().parents if folder.exists())
        sentence += f" {shutil.disk_usage(there).free / 1e6:.1f} MB are free there; make space."
    return sentence


def _sync(folder: Path) -> None:
    """So that the new name outlives a power cut."""
    with contextlib.suppress(OSError):  # some network drives know no sync of a folder; the file itself is on the disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
