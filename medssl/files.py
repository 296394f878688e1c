"""Files that are either complete or absent: each is written under a temporary name, synced to the disk, and renamed."""

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
    """A new file to write to, which replaces `path` at the end of the block.

    An error leaves no file; a kill leaves only a draft, whose name no reader uses. Raises UserError if the file cannot be written.
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


@contextmanager
def removed_on_error(path: Path) -> Iterator[None]:
    """Deletes the file `path`, which the block writes, where the block fails: half a file takes space, or is taken for a whole one."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either complete or absent. Raises UserError if it cannot be written."""
    with atomic_file(path) as file:
        file.write(content)


def is_draft(path: Path) -> bool:
    """Whether the file is a draft: the half-written file of a killed process."""
    return path.name.endswith(_DRAFT)


def cannot_write(path: Path, error: OSError) -> str:
    """A sentence for the user: what could not be written, by which user, why, and for a full disk how much space is free."""
    sentence = f"Cannot write {path} as user {os.getuid()}: {error.strerror or error}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next(folder for folder in path.absolute().parents if folder.exists())
        sentence += f" {shutil.disk_usage(there).free / 1e6:.1f} MB are free there; make space."
    return sentence


def _sync(folder: Path) -> None:
    """Write the folder to the disk, so that the new name survives a power cut."""
    with contextlib.suppress(OSError):  # some network drives cannot sync a folder; the file itself is on the disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
