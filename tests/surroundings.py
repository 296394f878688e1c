"""Real small and read-only disks, and a user that the machine does not know. Where a test may not make them it is skipped."""

import contextlib
import ctypes
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """For `preexec_fn`: the process gets SIGTERM when the one that started it ends, however that ends. Only on Linux."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system in memory of that size, mounted at `folder` while the block lasts."""
    folder.mkdir()
    mounted = _run("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Within the block this process writes no file of more than so many bytes: the rest of one fails as on a full disk (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def make_read_only(disk: Path) -> None:
    """As a kernel does with a disk that fails."""
    assert _run("mount", "-o", "remount,ro", str(disk)).returncode == 0


def fill(disk: Path) -> Path:
    """A file that takes all the space that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def unknown_user() -> list[str]:
    """What to put before a command to run it as user 12345, who has no name and no home but may read and write what we may."""
    become = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    if shutil.which("unshare") is None or _run(*become, "true").returncode:
        pytest.skip("needs the right to become another user (user namespaces)")
    return become


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
