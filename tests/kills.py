"""A function killed (SIGKILL) before every system call that it makes, each time on a fresh copy of a folder: what each kill leaves there.

`sys.setprofile` tells of each call to os and io (open, write, fsync, rename, ...) before it is made; so no two of them are without a
kill between.
"""

import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any


def folders_left(file: str, *jobs: tuple[str, Path, str]) -> list[list[Path]]:
    """For each job (function, start, module) of the test's `file`: a copy of the folder `start` for each place where `function(copy)` was
    killed, and as the last one that where it ended. One process does all jobs: what it imports takes seconds.

    Calls are counted in `module` ("medssl/train/checkpoint"), in medssl/files, and where these call pathlib and shutil.
    """
    arguments = [part for function, start, module in jobs for part in (function, str(start), module)]
    subprocess.run([sys.executable, __file__, file, *arguments], timeout=120, check=True)
    return [sorted(_work(start).iterdir(), key=lambda folder: int(folder.name)) for _, start, _ in jobs]


def _work(start: Path) -> Path:
    return start.with_name(f"{start.name}-killed")


def _main(file: str, *arguments: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    spec = importlib.util.spec_from_file_location("test", file)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    for function, start, module in zip(arguments[::3], map(Path, arguments[1::3]), arguments[2::3], strict=True):
        for number in count():
            folder = _work(start) / str(number)
            shutil.copytree(start, folder)
            if _ended(getattr(loaded, function), folder, number, module):
                break


def _ended(function: Callable[[Path], None], folder: Path, number: int, module: str) -> bool:
    """Whether the function came to its end in a process of its own, and was not killed before its call `number`."""
    child = os.fork()
    if child == 0:
        _kill_before(number, module)
        function(folder)
        sys.setprofile(None)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, f"status {status} at call {number}"
    return status == 0


def _kill_before(number: int, module: str) -> None:
    seen = count()

    def told(frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call" and _is_system(arg) and _is_of((module, "medssl/files"), frame) and next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(told)


def _is_system(called: Any) -> bool:
    return called.__module__ in ("posix", "io") or isinstance(getattr(called, "__self__", None), io.IOBase)


def _is_of(modules: tuple[str, ...], frame: FrameType | None) -> bool:
    """Whether a module makes the call, itself or through pathlib and shutil."""
    while frame and any(name in frame.f_code.co_filename for name in ("/pathlib", "/shutil")):
        frame = frame.f_back
    return frame is not None and any(name in frame.f_code.co_filename for name in modules)


if __name__ == "__main__":
    _main(*sys.argv[1:])
