"""One process at a time makes a store: the others wait, and then find the store complete."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

WAITING = "another process prepares the same images: waiting until that is done"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # what drives without locks answer
_POLL_SECONDS = 0.5


@contextmanager
def lock_store(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Within the block no other process makes the store in the folder `path`. `on_wait` gets a sentence if another one does so now.

    The kernel releases the lock of a process that is killed. A drive without locks is used without. Raises OSError where the lock's file,
    which lies beside the folder and is deleted at the end, cannot be written.
    """
    file = path.with_name(f"{path.name}.lock")
    lock = FileLock(file, mode=0o600)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            on_wait(WAITING)
            lock.acquire(poll_interval=_POLL_SECONDS)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        if lock.is_locked:
            file.unlink(missing_ok=True)
            lock.release()
