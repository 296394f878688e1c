"""Forwards a run to MLflow from a thread of its own, so that a dead, slow or full tracking server never holds up the training.

Every call is made in the thread, and made again until it succeeds or the run ends. What is lost on the way stands in metrics.jsonl, from
where `medssl track` sends it.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from medssl.tracking.mlflow_client import Session, first_line, is_refusal

RETRY_SECONDS = 10.0
CLOSE_SECONDS = 10.0
UPLOAD_SECONDS = 60.0
KILLED_SECONDS = 3.0


class Forwarder:
    """One run on its way to MLflow. Every method but `finish` returns at once, and none raises for anything that MLflow does.

    `warn` hears of each outage once, from the thread. `stop` is true once the process was asked to end.
    """

    def __init__(self, session: Session, folder: Path, warn: Callable[[str], None], stop: Callable[[], bool] = lambda: False) -> None:
        self._session, self._folder, self._warn, self._stop = session, folder, warn, stop
        self._queue: queue.SimpleQueue[None | Path | str] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._warned: set[str] = set()  # "outage" as long as one goes on, "refusal" ever after
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def announce_row(self) -> None:
        """There is a new row in metrics.jsonl."""
        self._queue.put(None)

    def log_artifact(self, path: Path) -> None:
        """A file or a folder, which must stay as it is until the run is finished."""
        self._queue.put(path)

    def finish(self, status: str) -> None:
        """Ends the run: FINISHED, FAILED or KILLED. Waits for what is on its way, 3 seconds where the process was asked to end, else 10,
        and a minute more where the run is FINISHED and MLflow answers."""
        self._queue.put(status)
        self._closing.set()
        began = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - began < self._timeout(status):
            self._thread.join(0.05)
        if self._thread.is_alive() and "outage" not in self._warned:
            self._warned.add("outage")
            self._warn(f"MLflow did not take everything in time. Send the rest with: medssl track {self._folder}")

    def _timeout(self, status: str) -> float:
        if status == "KILLED" or self._stop():
            return KILLED_SECONDS
        return CLOSE_SECONDS + (UPLOAD_SECONDS if status == "FINISHED" and "outage" not in self._warned else 0)

    def _work(self) -> None:
        """Rounds of: take what has come, send it. What an outage leaves behind is sent in a later round, if the run lasts that long."""
        session, status, up = self._session, None, False
        calls: list[Callable[[], object]] = [session.send_params]
        while status is None:
            for item in self._take(wait=up and not calls):
                if isinstance(item, str):
                    status = item
                elif isinstance(item, Path):
                    calls.append(partial(session.log_artifact, item))
            up = self._attempt(session.open) and self._attempt(session.send_metrics)
            if up:
                calls = [call for call in calls if not self._attempt(call)]
                if status is not None:
                    self._attempt(partial(session.end, status))
            if calls or not up:
                self._closing.wait(RETRY_SECONDS)
            else:
                self._warned.discard("outage")

    def _take(self, wait: bool) -> Iterator[None | Path | str]:
        if wait:
            yield self._queue.get()
        while not self._queue.empty():
            yield self._queue.get()

    def _attempt(self, call: Callable[[], object]) -> bool:
        """True when the call is done with: it succeeded, or MLflow refuses it for good. Warns once an outage, and of one refusal."""
        try:
            call()
        except Exception as error:  # whatever MLflow and its stores raise, the training goes on
            what = "refusal" if self._session.run_id and is_refusal(error) else "outage"
            if what not in self._warned:
                self._warned.add(what)
                self._warn(
                    f"MLflow at {self._session.address}: {first_line(error)}. The run goes on, and metrics.jsonl keeps all of its "
                    f"records. If MLflow lacks some when the run has ended, send them with: medssl track {self._folder}"
                )
            return what == "refusal"
        return True
