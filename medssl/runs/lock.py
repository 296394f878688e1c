"""One run a folder: `run.lock` in it says who is at work there, and since when.

The kernel's lock on that file (flock) decides, and ends with its process, however that ends. A shared drive may keep one machine's locks
from another: there the file's time, which its owner renews every few seconds, shows whether the owner lives. That time is only
compared with itself, so the machines' clocks need not agree.
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
BEAT_SECONDS = 10.0
SILENT_SECONDS = 35.0  # three beats, and some delay of the drive
KERNEL = Path("/proc/sys/kernel/random/boot_id")  # one in all containers of a machine, whose host names differ
_LOOK_SECONDS, _WRITTEN_SECONDS = 1.0, 1.0
_held: set[int] = set()


@contextmanager
def lock_run_dir(folder: Path, warn: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Within the block the folder is this process's own. What a killed run left half-written in it is taken away, and that run told of.

    Raises UserError where another run is at work there, and where the folder cannot be written.
    """
    path = folder / LOCK
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}.")
    try:
        handle = _taken(path, warn)
    except OSError as error:
        raise UserError(f"{cannot_write(path, error)} Name another folder with --out, or make this one writable.") from None
    _held.add(handle)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(handle, ended), name="lock", daemon=True)
    beat.start()
    try:
        for draft in filter(is_draft, folder.iterdir()):
            draft.unlink(missing_ok=True)
        yield
    finally:
        ended.set()
        beat.join()
        if handle in _held:
            _release(handle, path)


def _taken(path: Path, warn: Callable[[str], None]) -> int:
    """The handle of a lock file that is this process's own. Raises UserError where another one's is alive, OSError."""
    while True:
        handle, existed = _opened(path)
        try:
            locked = _locked(handle)
            owner = _owner(path, wait=not locked) if existed or locked is False else {}
            if locked is False:
                raise UserError(_in_use(path, owner))
            if (existed and locked is None) or owner.get("kernel", _kernel()) != _kernel():  # the lock of this kernel says nothing about it
                warn(f"{path} is of {_named(owner)}: looking for {SILENT_SECONDS:.0f} seconds whether that is alive.")
                if _beats(path):
                    raise UserError(_in_use(path, owner))
            if _is_at(handle, path):
                if owner:
                    warn(f"{path.parent} was in use by {_named(owner)}, which ended without releasing its lock. This run takes its place.")
                _write(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner has ended meanwhile, and taken the file away


def _opened(path: Path) -> tuple[int, bool]:
    """The lock file, open, and whether it was there before."""
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), False
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR), True


def _locked(handle: int) -> bool | None:
    """Locks it; False where another process has it, None where the drive knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _owner(path: Path, wait: bool) -> dict[str, Any]:
    """Who wrote the file; empty where it was made and not written, which takes another process a moment, or was cut short by a kill."""
    ends = time.monotonic() + (_WRITTEN_SECONDS if wait else 0)
    while True:
        with contextlib.suppress(ValueError, FileNotFoundError):
            return dict(json.loads(path.read_bytes()))
        if time.monotonic() > ends:
            return {}
        time.sleep(0.01)


def _write(handle: int) -> None:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps({**owner, "kernel": _kernel()}) + "\n").encode(), 0)


def _beats(path: Path) -> bool:
    """Whether anybody renews the file's time."""
    first = path.stat().st_mtime_ns
    ends = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < ends:
        time.sleep(min(_LOOK_SECONDS, SILENT_SECONDS / 10))
        try:
            handle = os.open(path, os.O_RDONLY)  # a drive tells what other machines did to a file when it is opened
        except FileNotFoundError:
            return False
        try:
            if os.fstat(handle).st_mtime_ns != first:
                return True
        finally:
            os.close(handle)
    return False


def _beat(handle: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(handle)


def _release(handle: int, path: Path) -> None:
    _held.discard(handle)
    with contextlib.suppress(OSError):
        if _is_at(handle, path):
            path.unlink()
    os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _kernel() -> str:
    return KERNEL.read_text().strip() if KERNEL.is_file() else socket.gethostname()


def _named(owner: dict[str, Any]) -> str:
    if not owner:
        return "an unknown process"
    return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"


def _in_use(path: Path, owner: dict[str, str]) -> str:
    return (
        f"The run folder {path.parent} is in use by {_named(owner)}. Wait for that run to end, stop it, or name another folder with --out."
    )


def _forget() -> None:
    """In a forked child: the lock is its parent's, and must end with the parent even where the child lives on."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget)
