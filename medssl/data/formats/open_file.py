"""Opening one image file, which must be a regular, readable file that is not empty."""

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
