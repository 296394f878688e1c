"""Work on many files in processes of their own: one that crashes its decoder, hangs, or takes too much memory costs itself only.

The processes are started as fresh programs: a fork of a process with threads may hang, and multiprocessing's own start methods run
the user's script again. They are kept for the next call, since starting one takes a second.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, TypeVar

from medssl.config import Limits
from medssl.errors import ReadError, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK, _TOGETHER = 8, 64  # items in a message; they must fit into a pipe's buffer
_FEW = 8  # items before a worker at which it is given more, so that it never waits for us
_MOST = 32  # workers: more only wait for the disk
_START_SECONDS = 120.0
# One thread each; and memory of one image is kept for the next instead of being given back: half the time of a radiograph
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
    "PILLOW_BLOCKS_MAX": "16",
}
_idle: list["_Worker"] = []


def run_in_workers(
    make: Callable[..., Callable[[Item], Result]],
    arguments: tuple[Any, ...],
    items: Iterable[Item],
    limits: Limits,
    processes: int | None = None,
    group_by: Callable[[Item], object] = lambda _: None,
) -> Generator[Result | ReadError]:
    """`make(*arguments)` applied to each item, in the items' order. `make` is a function or class that a worker can import, and is
    called once in each. Neighbours for which `group_by` gives the same value go to one worker, 64 at most: the slices of a
    compressed volume would else be inflated by each worker that reads some.

    An item gives a ReadError where the task raises one, and for what ends or stops its worker: crashed, timed_out (after
    `limits.seconds`), too_much_memory (beyond `limits.memory_bytes`), failed (any other exception). Raises UserError where the task does.
    """
    run = _Run((make, arguments, limits), items, processes or min(cores(), _MOST), group_by)
    try:
        yield from run.results(limits.seconds)
    finally:
        run.release()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One process, and the items that it has not answered yet, as (position, item)."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        self.connection = ours
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "medssl.data.workers.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what codecs print of damaged files
            process_group=0,  # a key press on Ctrl-C is for the command
            env=os.environ | _ENVIRONMENT,
        )
        theirs.close()
        self.waiting: deque[tuple[int, Any]] = deque()
        self.since = 0.0
        self.ready = False  # it says so once its imports are done

    def give(self, items: list[tuple[int, Any]]) -> None:
        if not self.waiting:
            self.since = time.monotonic()
        self.waiting.extend(items)
        with contextlib.suppress(OSError):  # it has just ended: that is seen where its answer is waited for
            self.connection.send(("items", [item for _, item in items]))

    def receive(self) -> Any:
        """The next answer. Raises EOFError or OSError where the process has ended."""
        answer = self.connection.recv()
        self.since = time.monotonic()
        if self.ready:
            return answer
        self.ready = True
        return None

    def late(self, seconds: float) -> float:
        """How long until its item is late, or it is late to start."""
        return self.since + (seconds if self.ready else _START_SECONDS) - time.monotonic()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class _Run:
    """One call of `run_in_workers`."""

    def __init__(self, task: tuple[Any, ...], items: Iterable[Any], processes: int, group_by: Callable[[Any], object]) -> None:
        self._task = task
        self._items = _chunks(enumerate(items), group_by)
        self._workers: list[_Worker] = []
        self._most = processes
        self._buffered = 2 * _TOGETHER * processes  # results that may wait for an earlier one
        self._again: deque[list[tuple[int, Any]]] = deque()  # given to a worker that ended
        self._done: dict[int, Any] = {}
        self._given = self._out = 0

    def results(self, seconds: float) -> Iterator[Any]:
        while self._feed() or any(worker.waiting for worker in self._workers) or self._done:
            while self._out in self._done:
                result = self._done.pop(self._out)
                if isinstance(result, UserError):
                    raise result
                self._out += 1
                yield result
            self._receive(seconds)

    def release(self) -> None:
        """Workers without work serve the next call; others are ended."""
        for worker in self._workers:
            if worker.waiting:
                worker.end()
            else:
                _idle.append(worker)
        self._workers = []

    def _feed(self) -> bool:
        """Gives work to those who have little; starts another worker while there is more. Whether anything was given."""
        gave = False
        for worker in self._workers:
            while len(worker.waiting) <= _FEW and (items := self._next()):
                worker.give(items)
                gave = True
        if len(self._workers) < self._most and (items := self._next()):
            self._workers.append(self._started())
            self._workers[-1].give(items)
            gave = True
        return gave

    def _started(self) -> _Worker:
        while _idle:
            worker = _idle.pop()
            if worker.process.poll() is None and not worker.connection.poll():  # nothing to say, not even that it has ended
                break
            worker.end()
        else:
            worker = _Worker()
        with contextlib.suppress(OSError):
            worker.connection.send(("task", self._task))
        return worker

    def _next(self) -> list[tuple[int, Any]]:
        if self._again:
            return self._again.popleft()
        items = next(self._items, []) if self._given - self._out < self._buffered else []
        self._given += len(items)
        return items

    def _receive(self, seconds: float) -> None:
        """Takes what has been answered, and ends those who died or took longer than `seconds` for one item."""
        busy = {worker.connection: worker for worker in self._workers if worker.waiting}
        if not busy:
            return
        ready = set(wait(list(busy), max(0.0, min(worker.late(seconds) for worker in busy.values()))))
        for connection, worker in busy.items():
            if connection in ready:
                self._take(worker)
            elif worker.late(seconds) < 0:
                self._replace(worker, ReadError(f"timed_out: not read within {seconds:g} seconds"))

    def _take(self, worker: _Worker) -> None:
        was_ready = worker.ready
        try:
            answer = worker.receive()
        except (EOFError, OSError):
            self._replace(worker, ReadError("crashed: its decoder ended the process"))
            return
        if was_ready:
            self._done[worker.waiting.popleft()[0]] = answer

    def _replace(self, worker: _Worker, reason: ReadError) -> None:
        """The item before a dead worker has failed; the others behind it are given to someone else."""
        worker.end()
        if not worker.ready:
            raise RuntimeError("a worker process does not start: python -m medssl.data.workers.worker")
        self._workers.remove(worker)
        self._done[worker.waiting.popleft()[0]] = reason
        if worker.waiting:
            self._again.append(list(worker.waiting))


def _chunks(items: Iterator[tuple[int, Any]], group_by: Callable[[Any], object]) -> Iterator[list[tuple[int, Any]]]:
    """Messages: 8 items, or up to 64 that belong together."""
    chunk: list[tuple[int, Any]] = []
    same = True
    for item in items:
        if chunk:
            same = same and group_by(chunk[0][1]) == group_by(item[1]) is not None
            if len(chunk) >= (_TOGETHER if same else _CHUNK):
                yield chunk
                chunk, same = [], True
        chunk.append(item)
    if chunk:
        yield chunk


@atexit.register
def end_workers() -> None:
    """Ends the processes that wait for the next call."""
    while _idle:
        _idle.pop().end()
