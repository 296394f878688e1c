"""Sends a run to MLflow from a thread, so that a dead, slow or full tracking server never delays the training.

The thread makes every call, and repeats it until the call succeeds or the run ends. Everything that was not sent is in metrics.jsonl, from
which `medssl track` can send it later.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from medssl.tracking.mlflow_client import Session, first_line, is_refusal
from medssl.tracking.mlflow_models import TrackedModel

RETRY_SECONDS = 10.0
CLOSE_SECONDS = 10.0
UPLOAD_SECONDS = 60.0
KILLED_SECONDS = 1.0
_Item = None | Path | TrackedModel | str  # new rows, a file or folder, a model, the end


class Forwarder:
    """Sends one run to MLflow. Every method except `finish` returns at once; no method raises an error of MLflow.

    `warn`: called from the thread, once for each outage. `stop()`: whether the process got a stop signal.
    """

    def __init__(self, session: Session, folder: Path, warn: Callable[[str], None], stop: Callable[[], bool] = lambda: False) -> None:
        self._session, self._folder, self._warn, self._stop = session, folder, warn, stop
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._warned: set[str] = set()  # "outage" until the end of the outage, "refusal" for ever
        self._thread = threading.Thread(target=self._send_all, name="mlflow", daemon=True)
        self._thread.start()

    def announce_row(self) -> None:
        """Send the new rows of metrics.jsonl."""
        self._queue.put(None)

    def log_artifact(self, path: Path) -> None:
        """Send a file or a folder. It must not change until the run is finished."""
        self._queue.put(path)

    def log_model(self, model: TrackedModel) -> None:
        """Write a model of the run in the format of MLflow, and send it."""
        self._queue.put(model)

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED. Waits for unsent items: 1 second after a stop signal, else 10 seconds, and one minute
        more if the run is FINISHED and MLflow answers."""
        self._queue.put(status)
        self._closing.set()
        start = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - start < self._timeout(status):
            self._thread.join(0.05)
        if self._thread.is_alive() and "outage" not in self._warned:
            self._warned.add("outage")
            self._warn(f"MLflow did not receive everything in time. Send the rest with: medssl track {self._folder}")

    def _timeout(self, status: str) -> float:
        if status == "KILLED" or self._stop():
            return KILLED_SECONDS
        return CLOSE_SECONDS + (UPLOAD_SECONDS if status == "FINISHED" and "outage" not in self._warned else 0)

    def _send_all(self) -> None:
        """In each round, take new items and send them. After an outage, a later round sends the rest, if the run still lasts."""
        session, status, reachable = self._session, None, False
        calls: list[Callable[[], object]] = [session.send_params]
        while status is None:
            for item in self._take_items(wait=reachable and not calls):
                if isinstance(item, str):
                    status = item
                elif isinstance(item, Path):
                    calls.append(partial(session.log_artifact, item))
                elif isinstance(item, TrackedModel):
                    calls.append(partial(session.log_model, item))
            reachable = self._attempt(session.open) and self._attempt(session.send_metrics)
            if reachable:
                calls = [call for call in calls if not self._attempt(call)]
                if status is not None:
                    self._attempt(partial(session.end, status))
            if calls or not reachable:
                self._closing.wait(RETRY_SECONDS)
            else:
                self._warned.discard("outage")

    def _take_items(self, wait: bool) -> Iterator[_Item]:
        if wait:
            yield self._queue.get()
        while not self._queue.empty():
            yield self._queue.get()

    def _attempt(self, call: Callable[[], object]) -> bool:
        """True if the call succeeded, or if MLflow refuses the call for ever. Warns once for each outage, and of the first refusal."""
        try:
            call()
        except Exception as error:  # whatever MLflow and its stores raise, the training goes on
            kind = "refusal" if self._session.run_id and is_refusal(error) else "outage"
            if kind not in self._warned:
                self._warned.add(kind)
                self._warn(
                    f"MLflow at {self._session.address}: {first_line(error)}. The run continues, and metrics.jsonl keeps all of its "
                    f"records. If some are missing in MLflow when the run has ended, send them with: medssl track {self._folder}"
                )
            return kind == "refusal"
        return True
