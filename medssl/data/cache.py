"""The folder for prepared data on this machine, and the site's secret key, with which identities become keyed hashes."""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from medssl.errors import UserError
from medssl.files import removed_on_error

MAKESHIFT = Path(".medssl")
_KEY_BYTES = 32


def cache_folder() -> Path:
    """The first of: $MEDSSL_CACHE, $XDG_CACHE_HOME/medssl, ~/.cache/medssl, .medssl/.cache/medssl in the current folder. The function does
    not create the folder.

    The last one is for users whose home cannot be written, as in containers and on some clusters' nodes.
    """
    if named := os.environ.get("MEDSSL_CACHE"):
        return Path(named).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "medssl"
    with contextlib.suppress(RuntimeError):  # HOME is not set, and the user is unknown to the machine
        at_home = Path.home() / ".cache" / "medssl"
        if _usable(at_home):
            return at_home
    return MAKESHIFT.absolute() / ".cache" / "medssl"


def is_makeshift(cache: Path) -> bool:
    """Whether the cache is in the current folder because the user has no usable home."""
    return cache.is_relative_to(MAKESHIFT.absolute())


def _usable(folder: Path) -> bool:
    """Whether the folder exists and can at least be read, or can be created."""
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    return os.access(existing, os.X_OK if existing == folder else os.W_OK | os.X_OK)


def private_folder(folder: Path) -> Path:
    """Creates `folder` and its missing parents, each for its owner only (mode 0700), and returns it."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    return folder


def phantom_folder(name: str, draw: Callable[[Path], None], data: str) -> Path:
    """The folder of a phantom in the cache. Where it is missing, `draw` writes all files into a temporary folder beside it, which gets its
    name once they are complete. Raises UserError, which names `data`, where the cache cannot be written."""
    folder = cache_folder() / "phantoms" / name
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        try:
            draw(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process has written the same files
            raise UserError(f"{data}: {folder} cannot be written: {error.strerror}. Set MEDSSL_CACHE to another folder.") from None
    return folder


def site_key(cache: Path) -> bytes:
    """The site's secret key: the content of the file that MEDSSL_KEY_FILE names, else of `cache`/site.key (32 random bytes, mode 0600),
    which is created at the first call.

    Raises UserError where the key cannot be read or created, or is shorter than 32 bytes.
    """
    named = os.environ.get("MEDSSL_KEY_FILE")
    file = Path(named).expanduser() if named else cache / "site.key"
    try:
        if not named:
            _create(file)
        return _read(file)
    except OSError as error:
        remedy = "Correct MEDSSL_KEY_FILE." if named else "Set MEDSSL_CACHE to a folder that can be written."
        raise UserError(f"The site key {file} cannot be used by user {os.getuid()}: {error.strerror}. {remedy}") from None


def _create(file: Path) -> None:
    private_folder(file.parent)
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return
    with removed_on_error(file), os.fdopen(handle, "wb") as key:
        key.write(secrets.token_bytes(_KEY_BYTES))


def _read(file: Path) -> bytes:
    deadline = time.monotonic() + 1  # another process may have created the file and not written the key yet
    while len(key := file.read_bytes()) < _KEY_BYTES:
        if time.monotonic() > deadline:
            raise UserError(
                f"The site key {file} holds {len(key)} bytes, it needs {_KEY_BYTES}. Restore it from a backup; with a new key, "
                "earlier encoders can no longer be checked for patients they have seen."
            )
        time.sleep(0.01)
    return key
