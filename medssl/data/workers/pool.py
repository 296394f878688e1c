"""Work on many files in worker processes. A file that crashes its decoder, hangs, or needs too much memory costs that file only.

Workers are started as new programs: a fork of a process with threads may hang, and multiprocessing's start methods run the user's script
again. Workers are kept for the next call, since starting one takes a second.
"""

import atexit
import contextlib
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from medssl.config import Limits
from medssl.data.workers.stopwatch import Stopwatch
from medssl.errors import ReadError, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_OF_MESSAGE, _ITEMS_OF_GROUP = 8, 64  # the most items in a message
_REFILL_AT = 8  # unanswered items of a worker at which more are sent, so that it never waits for this process
_ENDS_OF_GROUP = 3  # workers that may end on items of one group before its other items are given up, too
_MAX_WORKERS = 32  # more workers would only wait for the disk
_START_SECONDS, _EXIT_SECONDS = 120.0, 5.0
# One thread in each worker. The memory of an image is kept for the next one: that halves the time of a radiograph.
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
    large: bool = False,
) -> Generator[Result | ReadError]:
    """The result of `make(*arguments)(item)` for each item, in the items' order. `make` is a function or class that a worker can import;
    each worker calls it once. Neighbouring items with the same value of `group_by` go to one worker, up to 64: otherwise every worker
    that reads slices of a compressed volume would inflate the whole volume. `large`: the results are large, as whole volumes are, so items
    are sent one by one, and few results wait for an earlier one.

    The result is a ReadError where the task raises one, and where the worker fails: crashed, killed (by the system, as for want of memory),
    timed_out (after `limits.seconds`; time in which it waits for a core does not count), too_much_memory (beyond `limits.memory_bytes`),
    unreadable (an error of the system), failed (any other exception). After an item that was timed out, and after three that ended their
    workers, the other items of the group get the same result without another try. Raises UserError where the task does, and the error of
    `make`: UserError as it is, any other one as a RuntimeError.
    """
    run = _Run((make, arguments, limits), items, processes or min(cores(), _MAX_WORKERS), group_by, large)
    try:
        yield from run.results(limits.seconds)
    finally:
        run.release()


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One worker process. `unanswered`: the items that it has received and not answered yet, as (position, item)."""

    def __init__(self) -> None:
        our_end, worker_end = Pipe()
        self.connection = our_end
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "medssl.data.workers.worker", str(worker_end.fileno())],
            pass_fds=[worker_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders print messages about damaged files
            process_group=0,  # Ctrl-C must reach the command only
            env=os.environ | _ENVIRONMENT,
        )
        worker_end.close()
        self._socket = socket.socket(fileno=os.dup(our_end.fileno()))
        self._unsent = bytearray()
        self.unanswered: deque[tuple[int, Any]] = deque()
        self._stopwatch = Stopwatch(self.process.pid)
        self.ready = False  # the worker's first message says that its imports are done

    def send(self, items: list[tuple[int, Any]]) -> None:
        if not self.unanswered:
            self._stopwatch.restart()
        self.unanswered.extend(items)
        self.tell("items", [item for _, item in items])

    def tell(self, kind: str, value: Any) -> None:
        """Sends a message without waiting: a worker that waits for us to read a large answer would never read a large message. What the
        pipe does not take is sent by `go_on_sending`."""
        message = ForkingPickler.dumps((kind, value))
        assert len(message) < 2**31
        self._unsent += struct.pack("!i", len(message)) + message  # the form that Connection.recv reads
        self.go_on_sending()

    @property
    def is_sending(self) -> bool:
        return bool(self._unsent)

    def go_on_sending(self) -> None:
        """Sends as much as the pipe takes now."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            pass
        except OSError:  # the process has just ended; reading its answer will show that
            self._unsent.clear()

    def receive(self) -> Any:
        """The next answer; None for the first message. Raises EOFError or OSError where the process has ended."""
        answer = self.connection.recv()
        self._stopwatch.restart()
        if self.ready:
            return answer
        self.ready = True
        return None

    def seconds_until_late(self, seconds: float) -> float:
        """The seconds until the time limit of its first unanswered item, `seconds`, or that of its start has passed. Time in which
        it waits for a core does not count."""
        return self._stopwatch.seconds_left(seconds if self.ready else _START_SECONDS)

    def reason_of_end(self) -> ReadError:
        """Why the process has ended by itself. The kernel sends SIGKILL where the machine has no memory left; no decoder does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_EXIT_SECONDS)
        if self.process.returncode == -signal.SIGKILL:
            return ReadError("killed: the system ended its process, perhaps for want of memory")
        return ReadError("crashed: its decoder ended the process")

    def end(self) -> None:
        """Ends the process, and what it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: on macOS, where all have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        self._socket.close()


class _Run:
    """One call of `run_in_workers`."""

    def __init__(self, task: tuple[Any, ...], items: Iterable[Any], processes: int, group_by: Callable[[Any], object], large: bool) -> None:
        self._task = task
        self._group_by = group_by
        self._ends = Counter[object]()  # of each group, the workers that ended on its items
        self._given_up: dict[object, ReadError] = {}  # groups whose other items are not tried, with the reason
        self._items = ([item] for item in enumerate(items)) if large else _messages(enumerate(items), group_by)
        self._refill_at = 1 if large else _REFILL_AT
        self._workers: list[_Worker] = []
        self._max_workers = processes
        self._max_pending = (
            4 if large else 2 * _ITEMS_OF_GROUP
        ) * processes  # the most items that are in work or whose results wait for an earlier result
        self._returned: deque[list[tuple[int, Any]]] = deque()  # the other items of workers that ended
        self._results: dict[int, Any] = {}
        self._taken_count = self._yielded_count = 0

    def results(self, seconds: float) -> Iterator[Any]:
        while self._distribute() or any(worker.unanswered for worker in self._workers) or self._results:
            while self._yielded_count in self._results:
                result = self._results.pop(self._yielded_count)
                if isinstance(result, UserError | RuntimeError):  # a RuntimeError says that the worker could not be set up
                    raise result
                self._yielded_count += 1
                yield result
            self._receive(seconds)

    def release(self) -> None:
        """Keeps workers without work for the next call, and ends all others."""
        for worker in self._workers:
            if worker.unanswered:
                worker.end()
            else:
                _idle.append(worker)
        self._workers = []

    def _distribute(self) -> bool:
        """Sends items to workers that have few, and to one more worker where items remain. Returns whether any were sent."""
        sent = False
        for worker in self._workers:
            while len(worker.unanswered) <= self._refill_at and (items := self._next_items()):
                worker.send(items)
                sent = True
        if len(self._workers) < self._max_workers and (items := self._next_items()):
            self._workers.append(self._get_worker())
            self._workers[-1].send(items)
            sent = True
        return sent

    def _get_worker(self) -> _Worker:
        while _idle:
            worker = _idle.pop()
            if worker.process.poll() is None and not worker.connection.poll():  # the worker runs, and no old message waits
                break
            worker.end()
        else:
            worker = _Worker()
        worker.tell("task", self._task)
        return worker

    def _next_items(self) -> list[tuple[int, Any]]:
        """The next message for a worker; empty where there is none for now."""
        while True:
            if self._returned:
                items = self._returned.popleft()
            else:
                items = next(self._items, []) if self._taken_count - self._yielded_count < self._max_pending else []
                self._taken_count += len(items)
            given_up = {position: self._given_up[group] for position, item in items if (group := self._group_by(item)) in self._given_up}
            self._results |= given_up
            if len(given_up) < len(items) or not items:
                return [entry for entry in items if entry[0] not in given_up]

    def _receive(self, seconds: float) -> None:
        """Reads the answers that have arrived, and replaces workers that ended or worked longer than `seconds` on one item."""
        busy = [worker for worker in self._workers if worker.unanswered]
        if not busy:
            return
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.is_sending else 0), worker)
            found = selector.select(max(0.0, min(worker.seconds_until_late(seconds) for worker in busy)))
        events = {key.data: event for key, event in found}
        for worker in busy:
            if events.get(worker, 0) & selectors.EVENT_WRITE:
                worker.go_on_sending()
            if events.get(worker, 0) & selectors.EVENT_READ:
                self._read_answer(worker)
            elif worker.seconds_until_late(seconds) < 0:
                self._replace(worker, ReadError(f"timed_out: not read within {seconds:g} seconds"))

    def _read_answer(self, worker: _Worker) -> None:
        was_ready = worker.ready
        try:
            answer = worker.receive()
        except (EOFError, OSError):
            self._replace(worker, worker.reason_of_end())
            return
        if was_ready:
            self._results[worker.unanswered.popleft()[0]] = answer

    def _replace(self, worker: _Worker, reason: ReadError) -> None:
        """Ends a worker. `reason` becomes the result of its first unanswered item; other workers get the remaining ones, unless their group
        is given up."""
        worker.end()
        if not worker.ready:
            raise RuntimeError("a worker process does not start: python -m medssl.data.workers.worker")
        self._workers.remove(worker)
        position, item = worker.unanswered.popleft()
        self._results[position] = reason
        if (group := self._group_by(item)) is not None:
            self._ends[group] += 1
            if reason.reason == "timed_out" or self._ends[group] == _ENDS_OF_GROUP:
                self._given_up[group] = reason
        if worker.unanswered:
            self._returned.append(list(worker.unanswered))


def _messages(items: Iterator[tuple[int, Any]], group_by: Callable[[Any], object]) -> Iterator[list[tuple[int, Any]]]:
    """The items in messages of 8, or of up to 64 items of one group."""
    message: list[tuple[int, Any]] = []
    same_group = True
    for item in items:
        if message:
            same_group = same_group and group_by(message[0][1]) == group_by(item[1]) is not None
            if len(message) >= (_ITEMS_OF_GROUP if same_group else _ITEMS_OF_MESSAGE):
                yield message
                message, same_group = [], True
        message.append(item)
    if message:
        yield message


@atexit.register
def end_workers() -> None:
    """Ends the workers that are kept for the next call."""
    while _idle:
        _idle.pop().end()
