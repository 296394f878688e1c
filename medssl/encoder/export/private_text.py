"""What must not leave with an encoder: paths of this machine, its name, and the name of its user.

The content of archives is read, too. Names and paths of fewer than five letters are not searched: they occur in weights by chance.
"""

import getpass
import re
import socket
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import medssl

_SHORTEST = 5
_PATHS = re.compile(rb"(?:/home|/root|/Users|/tmp|/opt|/usr/lib|/usr/local|/mnt|/srv)/[\w.-]{2,}")
_SOURCE = re.compile(rb"/[\w.-]{2,}/[\w./-]+\.py\b")


def find_private_text(path: Path, *others: Path) -> str | None:
    """A sentence about the first private text in a file or in the files of a folder; None without one. `others`: more paths that must not
    be in the files, such as that of the run. The text is not repeated."""
    known = {word.encode() for word in [*_names(), *map(str, (*_places(), *others))] if len(word) >= _SHORTEST}
    for name, content in _contents(path):
        if any(word in content for word in known):
            return f"{name} has a path of this machine, its name, or the name of the user in it"
        if _PATHS.search(content) or _SOURCE.search(content):
            return f"{name} has a path of a file in it"
    return None


def _names() -> Iterator[str]:
    yield socket.gethostname()
    with suppress(OSError, KeyError):  # a user without a name, as in containers
        yield getpass.getuser()


def _places() -> Iterator[Path]:
    with suppress(RuntimeError):  # no home
        yield Path.home()
    yield from (Path.cwd(), Path(sys.prefix), Path(medssl.__file__).parent, Path(tempfile.gettempdir()))


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        yield file.name, file.read_bytes()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield from ((f"{file.name}, in it {name}", archive.read(name)) for name in archive.namelist())
