"""The folders that medssl writes to: permissions and free space, tested with a real file; and the site key."""

import stat
import tempfile
from collections.abc import Iterator
from os import environ
from pathlib import Path
from shutil import disk_usage

from medssl.data.cache import cache_folder, is_makeshift, site_key
from medssl.doctor.check_result import CheckResult, make_result
from medssl.errors import UserError
from medssl.files import cannot_write
from medssl.runs.run_dir import RUNS

_MIN_BYTES, _LOW_BYTES = 2**30, 10 * 2**30  # bytes; a ResNet-50's checkpoint takes half a GiB, and two are kept


def check() -> Iterator[CheckResult]:
    """The folder of the runs, the cache, the folder for temporary files, and the site key."""
    cache = cache_folder()
    yield folder("runs", RUNS.absolute(), "Start medssl in a folder that can be written, or name one with --out.")
    makeshift = "There is no home folder that can be written: set HOME or MEDSSL_CACHE." if is_makeshift(cache) else ""
    yield folder("cache", cache, "Set MEDSSL_CACHE to a folder that can be written.", makeshift)
    yield folder("temporary", Path(tempfile.gettempdir()), "Set TMPDIR to a folder that can be written.")
    yield key(cache)


def folder(name: str, path: Path, remedy: str, warning: str = "") -> CheckResult:
    """Whether `path`, or its nearest existing parent, can be written, and its free space. `remedy`: what to do if it cannot."""
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return make_result(name, cannot_write(path, error), error=remedy)
    free = disk_usage(existing).free
    seen = f"{path}, {free / 2**30:.1f} GiB free"
    if free < _MIN_BYTES:
        return make_result(name, seen, error=f"Less than {_MIN_BYTES // 2**30} GiB. Make space. {remedy}")
    return make_result(name, seen, warning=warning or (f"Less than {_LOW_BYTES // 2**30} GiB. Make space." if free < _LOW_BYTES else ""))


def key(cache: Path) -> CheckResult:
    """The site key, the secret of the keyed hashes of patients: only its owner should be able to read it."""
    named = environ.get("MEDSSL_KEY_FILE")
    file = Path(named).expanduser() if named else cache / "site.key"
    if not named and not file.exists():
        return make_result("site key", f"{file} will be made by the first command that needs it")
    try:
        site_key(cache)
    except UserError as error:
        first, _, remedy = str(error).partition(". ")
        return make_result("site key", first, error=remedy)
    mode = stat.S_IMODE(file.stat().st_mode)
    return make_result("site key", f"{file}, mode {mode:04o}", warning=f"Others can read it: chmod 600 {file}" if mode & 0o077 else "")
