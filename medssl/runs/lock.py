"""One run in a folder at a time: the file `run.lock` in the folder says which process uses it, and since when.

The kernel's lock (flock) on that file decides. The kernel releases it when the process ends, in whatever way. A shared drive may not show
the locks of one machine to another. Then the time of the file decides: its owner renews it every few seconds. That time is only compared
with earlier values of itself, so the clocks of the machines need not agree.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medssl.errors import UserError
from medssl.files import cannot_write, is_draft

LOCK = "run.lock"
RENEW_SECONDS = 10.0
SILENT_SECONDS = 35.0  # three renewals, and some delay of the drive
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # equal in all containers of a machine; host names differ
_POLL_SECONDS, _WRITE_SECONDS = 1.0, 1.0
_own_handles: set[int] = set()


@contextmanager
def lock_run_dir(folder: Path, warn: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Within the block only this process may use the folder. Half-written files of a killed run are deleted; `warn` gets a message about
    that run.

    Raises UserError if another run uses the folder, or if the folder cannot be written.
    """
    path = folder / LOCK
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}.")
    try:
        handle = _acquire(path, warn)
    except OSError as error:
        raise UserError(f"{cannot_write(path, error)} Name another folder with --out, or make this one writable.") from None
    _own_handles.add(handle)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(handle, ended), name="lock", daemon=True)
    renewal.start()
    try:
        for draft in filter(is_draft, folder.iterdir()):
            draft.unlink(missing_ok=True)
        yield
    finally:
        ended.set()
        renewal.join()
        if handle in _own_handles:
            _release(handle, path)


def _acquire(path: Path, warn: Callable[[str], None]) -> int:
    """Lock the file for this process and return its handle. Raises UserError if the owner is alive, and OSError."""
    while True:
        handle, existed = _open_file(path)
        try:
            locked = _try_flock(handle)
            owner = _read_owner(path, wait=not locked) if existed or locked is False else {}
            if locked is False:
                raise UserError(_in_use_message(path, owner))
            if (existed and locked is None) or owner.get("kernel", _boot_id()) != _boot_id():  # this kernel knows no locks of another
                warn(f"{path} belongs to {_describe(owner)}: waiting {SILENT_SECONDS:.0f} seconds to see whether that process is alive.")
                if _is_renewed(path):
                    raise UserError(_in_use_message(path, owner))
            if _is_same_file(handle, path):
                if owner:
                    warn(f"{path.parent} was in use by {_describe(owner)}, which ended without releasing its lock. This run continues.")
                _write_owner(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # meanwhile the owner has ended and deleted the file


def _open_file(path: Path) -> tuple[int, bool]:
    """Open the lock file: its handle, and whether the file existed before."""
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), False
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR), True


def _try_flock(handle: int) -> bool | None:
    """Lock the file. True: done. False: another process has the lock. None: the drive has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _read_owner(path: Path, wait: bool) -> dict[str, Any]:
    """The content of the lock file; empty if nothing was written into it yet, or if the content is damaged. `wait`: give the owner
    a second to write it."""
    ends = time.monotonic() + (_WRITE_SECONDS if wait else 0)
    while True:
        with contextlib.suppress(ValueError, TypeError, RecursionError, FileNotFoundError):  # TypeError: other JSON than an object
            return dict(json.loads(path.read_bytes()))
        if time.monotonic() > ends:
            return {}
        time.sleep(0.01)


def _write_owner(handle: int) -> None:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps({**owner, "kernel": _boot_id()}) + "\n").encode(), 0)


def _is_renewed(path: Path) -> bool:
    """Whether another process renews the time of the file."""
    first = path.stat().st_mtime_ns
    ends = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < ends:
        time.sleep(min(_POLL_SECONDS, SILENT_SECONDS / 10))
        try:
            handle = os.open(path, os.O_RDONLY)  # a network drive updates the time when a file is opened
        except FileNotFoundError:
            return False
        try:
            if os.fstat(handle).st_mtime_ns != first:
                return True
        finally:
            os.close(handle)
    return False


def _renew(handle: int, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(handle)


def _release(handle: int, path: Path) -> None:
    _own_handles.discard(handle)
    with contextlib.suppress(OSError):
        if _is_same_file(handle, path):
            path.unlink()
    os.close(handle)


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _boot_id() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.is_file() else socket.gethostname()


def _describe(owner: dict[str, Any]) -> str:
    if not owner:
        return "an unknown process"
    return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"


def _in_use_message(path: Path, owner: dict[str, str]) -> str:
    remedy = "Wait for that run to end, stop it, or name another folder with --out."
    return f"The run folder {path.parent} is in use by {_describe(owner)}. {remedy}"


def _close_inherited() -> None:
    """In a forked child, close the parent's handles: the lock must end with the parent, even if the child runs longer."""
    while _own_handles:
        os.close(_own_handles.pop())


os.register_at_fork(after_in_child=_close_inherited)
