"""Opening one image file, which must be a regular, readable file that is not empty; and errors of the machine that reads it."""

import errno
import stat
from pathlib import Path
from typing import BinaryIO

from medssl.errors import ReadError


def open_regular_file(path: Path) -> BinaryIO:
    """The file, open for reading. Raises ReadError not_a_file (opening a pipe would block for ever), unreadable, or empty."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ReadError("not_a_file: a folder, a pipe, a socket or a device")
        if found.st_size == 0:
            raise ReadError("empty: the file has no bytes")
        return path.open("rb")
    except OSError as error:
        raise ReadError(f"unreadable: {error.strerror}") from error


def size_and_time(path: Path) -> tuple[int, int] | None:
    """By which a file is known again: its bytes, and when it was changed, in ns. None where it is not there: opening it says why."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def raise_if_of_the_machine(error: Exception) -> None:
    """Raises ReadError unreadable or too_much_memory for an error of the drive or the memory, which says nothing about the file's bytes and
    may be gone at the next try. A wrong position (EINVAL) comes from the file's bytes, and so do the OSErrors that decoders raise, which
    have no number."""
    if isinstance(error, MemoryError):
        raise ReadError("too_much_memory: there is too little memory to decode it") from error
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise ReadError(f"unreadable: {error.strerror}") from error
