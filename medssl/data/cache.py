"""Where prepared data is kept on this machine, and the site's secret key that turns identities into keyed hashes."""

import contextlib
import os
import secrets
import time
from pathlib import Path

from medssl.errors import UserError

MAKESHIFT = Path(".medssl")
_KEY_BYTES = 32


def cache_folder() -> Path:
    """$MEDSSL_CACHE, else $XDG_CACHE_HOME/medssl, else ~/.cache/medssl, else .medssl/.cache/medssl here. Not created here.

    The last one is for users without a home that they can write in, as in containers and on some clusters' nodes.
    """
    if own := os.environ.get("MEDSSL_CACHE"):
        return Path(own).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "medssl"
    with contextlib.suppress(RuntimeError):  # no HOME, and a user that the machine does not know
        at_home = Path.home() / ".cache" / "medssl"
        if _usable(at_home):
            return at_home
    return MAKESHIFT.absolute() / ".cache" / "medssl"


def is_makeshift(cache: Path) -> bool:
    """Whether the cache is where it is only because there is no home for it."""
    return cache.is_relative_to(MAKESHIFT.absolute())


def _usable(folder: Path) -> bool:
    """Whether the folder is there, if only to read what was prepared before, or can be made."""
    there = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    return os.access(there, os.X_OK if there == folder else os.W_OK | os.X_OK)


def private_folder(folder: Path) -> Path:
    """`folder`, made where it is not there, and its missing parents, each for its owner only (0700)."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    return folder


def site_key(cache: Path) -> bytes:
    """The site's secret key: the file that MEDSSL_KEY_FILE names, else `cache`/site.key (32 random bytes, mode 0600, made once).

    Raises UserError where the key cannot be read or made, or is shorter than 32 bytes.
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
    with os.fdopen(handle, "wb") as key:
        key.write(secrets.token_bytes(_KEY_BYTES))


def _read(file: Path) -> bytes:
    deadline = time.monotonic() + 1  # another process may have created the file and be about to write it
    while len(key := file.read_bytes()) < _KEY_BYTES:
        if time.monotonic() > deadline:
            raise UserError(
                f"The site key {file} holds {len(key)} bytes, it needs {_KEY_BYTES}. Restore it from a backup; with a new key, "
                "earlier encoders can no longer be checked for patients they have seen."
            )
        time.sleep(0.01)
    return key
