"""The program of a worker process of `pool`: `python -m medssl.data.workers.worker FD`. FD is the number of the open pipe. The program
imports little, so it starts quickly.

Messages are (kind, value). The value of a "task" is (make, arguments, limits): the task is `make(*arguments)`. The value of "items" is a
list; the task's result for each item is one answer.
"""

import contextlib
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from medssl.config import Limits
from medssl.data import damage
from medssl.errors import ReadError, UserError


def main() -> None:
    """Reads messages and sends answers until the pipe's other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which then closes the connection
    warnings.simplefilter("ignore")
    damage.listen()
    connection = Connection(int(sys.argv[1]))
    connection.send("ready")
    task: Callable[[Any], Any] = _no_task
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            try:
                kind, value = connection.recv()
                if kind == "task":
                    make, arguments, limits = value
                    task = make(*arguments)
                    _limit_memory(limits)
                    continue
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                task = _failed_set_up(error)
                continue
            for item in value:
                connection.send(_answer(task, item))
    if os.getpgrp() == os.getpid():  # what a decoder has started ends with this process
        os.killpg(0, signal.SIGKILL)


def _answer(task: Callable[[Any], Any], item: Any) -> Any:
    """The task's result for an item. A ReadError is sent without its cause, which may quote the file."""
    try:
        return task(item)
    except ReadError as error:
        return ReadError(str(error))
    except (UserError, _SetUpError) as error:
        return error if isinstance(error, UserError) else RuntimeError(str(error))
    except MemoryError:
        return ReadError("too_much_memory: more than limits.memory_bytes allows for one image")
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            return ReadError(f"unreadable: {error.strerror}")
        return ReadError(f"failed: {type(error).__name__} while it was read")


class _SetUpError(Exception):
    """The task could not be set up."""


def _failed_set_up(error: Exception) -> Callable[[Any], Any]:
    """A task that answers every item with the error that the set-up raised; the other process then raises the first of these answers. No
    file has been read by then, so the text of the error quotes none."""
    told = error if isinstance(error, UserError) else _SetUpError(f"a worker process cannot be set up: {type(error).__name__}: {error}")

    def refuse(_: Any) -> Any:
        raise told

    return refuse


def _no_task(_: Any) -> Any:
    raise AssertionError("no task was set")


def _limit_memory(limits: Limits) -> None:
    """Limits the process to `memory_bytes` more than it has now, or to the hard limit of `ulimit -v` or the batch system where that is
    less. Beyond that, Python raises MemoryError."""
    status = Path("/proc/self/statm")
    if status.is_file():
        now = int(status.read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = now + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


if __name__ == "__main__":
    main()
