"""What must not leave with an encoder: paths of this machine, its name, and the name of its user.

The content of archives is read, too. Not searched are names and paths of fewer than five letters, which occur in weights by chance; names
that are words of this package, such as a user called medssl; and folders at the root, such as /data, as archives have such folders inside.
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
    places = [str(place) for place in (*_places(), *others) if len(place.parts) > 2]
    known = [text.encode() for text in {*_names(), *places} if len(text) >= _SHORTEST]
    private = re.compile(b"|".join(re.escape(text) + rb"(?![\w-])" for text in known) or rb"(?!)")
    for name, content in _contents(path):
        if private.search(content):
            return f"{name} has a path of this machine, its name, or the name of the user in it"
        if _PATHS.search(content) or _SOURCE.search(content):
            return f"{name} has a path of a file in it"
    return None


def _names() -> Iterator[str]:
    own = {word for file in Path(__file__).parent.parent.rglob("*.py") for word in re.findall(r"\w+", file.read_text("utf-8").lower())}
    with suppress(OSError, KeyError):  # a user without a name, as in containers
        yield from (name for name in (getpass.getuser(), socket.gethostname()) if name.lower() not in own)


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
