"""Where medssl writes: rights and space, tried with a real file; and the site's key."""

import stat
import tempfile
from collections.abc import Iterator
from os import environ
from pathlib import Path
from shutil import disk_usage

from medssl.data.cache import cache_folder, is_makeshift, site_key
from medssl.doctor.finding import Finding, make_finding
from medssl.errors import UserError
from medssl.files import cannot_write
from medssl.runs.run_dir import RUNS

_LEAST, _ENOUGH = 2**30, 10 * 2**30  # bytes; a ResNet-50's checkpoint takes half a GiB, and two are kept


def check() -> Iterator[Finding]:
    """The run folders, the cache, the place for temporary files, the key."""
    cache = cache_folder()
    yield folder("runs", RUNS.absolute(), "Start medssl in a folder that can be written, or name one with --out.")
    makeshift = "There is no home folder that can be written: set HOME or MEDSSL_CACHE." if is_makeshift(cache) else ""
    yield folder("cache", cache, "Set MEDSSL_CACHE to a folder that can be written.", makeshift)
    yield folder("temporary", Path(tempfile.gettempdir()), "Set TMPDIR to a folder that can be written.")
    yield key(cache)


def folder(name: str, path: Path, remedy: str, warning: str = "") -> Finding:
    """A folder that is there, or that can be made in the nearest one that is."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return make_finding(name, cannot_write(path, error), error=remedy)
    free = disk_usage(there).free
    seen = f"{path}, {free / 2**30:.1f} GiB free"
    if free < _LEAST:
        return make_finding(name, seen, error=f"Less than {_LEAST // 2**30} GiB. Make space. {remedy}")
    return make_finding(name, seen, warning=warning or (f"Less than {_ENOUGH // 2**30} GiB. Make space." if free < _ENOUGH else ""))


def key(cache: Path) -> Finding:
    """The secret that turns identities into keyed hashes: readable by its owner, and by nobody else."""
    named = environ.get("MEDSSL_KEY_FILE")
    file = Path(named).expanduser() if named else cache / "site.key"
    if not named and not file.exists():
        return make_finding("site key", f"{file} will be made by the first command that needs it")
    try:
        site_key(cache)
    except UserError as error:
        first, _, remedy = str(error).partition(". ")
        return make_finding("site key", first, error=remedy)
    mode = stat.S_IMODE(file.stat().st_mode)
    return make_finding("site key", f"{file}, mode {mode:04o}", warning=f"Others can read it: chmod 600 {file}" if mode & 0o077 else "")
