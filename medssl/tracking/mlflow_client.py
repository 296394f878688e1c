"""Forwards a run to MLflow from a thread of its own, so that a dead, slow or full tracking server never holds up the training.

MLflow 3.17 blocks its caller for minutes when the server is down, and processes that create one sqlite store at the same time break it.
Here every call happens in the thread and is repeated until it succeeds or the run ends, and an embedded store is created under a file lock.
What is lost on the way still stands in metrics.jsonl. Only `MlflowClient` is used: no global active run, no login name, no script path.
"""

import fcntl
import json
import logging
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from medssl.config import Config

RETRY_SECONDS = 10.0
CLOSE_SECONDS = 10.0
UPLOAD_SECONDS = 60.0

_ABSOLUTE_PATH = re.compile(r'(^|")(/|~|\\|[A-Za-z]:[\\/]|file:)')
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True)
class Run:
    """What MLflow is told of a run. `parent` and `run_id` are MLflow's ids: of the run to nest it under, of the run to go on with."""

    name: str
    experiment: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    run_id: str | None = None


def public_params(config: Config) -> dict[str, str]:
    """The configuration as flat text {"train.lr": "0.001"}, without `data.path` and anything else that looks like an absolute path."""
    flat = {key: value if isinstance(value, str) else json.dumps(value) for key, value in _leaves(config.model_dump(mode="json"))}
    return {key: text for key, text in flat.items() if key != "data.path" and not _ABSOLUTE_PATH.search(text)}


class MlflowTracker:
    """One MLflow run. Every method but `finish` returns at once, and none raises for anything that MLflow does.

    `runs`: the folder that holds the embedded store (mlflow.db, mlartifacts/), used where neither `uri` nor MLFLOW_TRACKING_URI names
    another. `warn` hears of each outage once; `on_run` gets the run's id as soon as there is one. Both are called from the thread.
    """

    def __init__(
        self, run: Run, runs: Path, warn: Callable[[str], None], on_run: Callable[[str], None] = lambda _: None, uri: str | None = None
    ) -> None:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        self._session = _Session(run, runs.resolve(), on_run, uri or os.environ.get("MLFLOW_TRACKING_URI"))
        self._warn = warn
        self._queue: queue.SimpleQueue[Mapping[str, Any] | Path | str] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._down = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, row: Mapping[str, Any]) -> None:
        """The numbers of a row, as metrics at its `step`."""
        self._queue.put({**row, "timestamp": int(time.time() * 1000)})

    def artifact(self, path: Path) -> None:
        """A file or a folder, which must stay as it is until the run is finished."""
        self._queue.put(path)

    def finish(self, status: str = "FINISHED") -> None:
        """Ends the run (FINISHED, FAILED or KILLED). Waits for what is on its way: 10 seconds, a minute more while MLflow answers."""
        self._queue.put(status)
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)
        if not self._down:
            self._thread.join(UPLOAD_SECONDS)
        if self._thread.is_alive():
            self._warn("MLflow did not take everything in time. metrics.jsonl holds all of it.")

    def _work(self) -> None:
        """Rounds of: take what has come, send it. What an outage leaves behind is sent in a later round, if the run lasts that long."""
        session, status = self._session, None
        rows: list[Mapping[str, Any]] = []
        calls: list[Callable[[], None]] = [session.describe]
        while status is None:
            for item in self._take(wait=not (rows or calls)):
                if isinstance(item, str):
                    status = item
                elif isinstance(item, Path):
                    calls.append(partial(session.artifact, item))
                else:
                    rows.append(item)
            if self._attempt(session.open) and self._attempt(partial(session.metrics, rows)):
                rows = []
                calls = [call for call in calls if not self._attempt(call)]
                if status is not None:
                    self._attempt(partial(session.end, status))
            if rows or calls:
                self._closing.wait(RETRY_SECONDS)
            else:
                self._down = False

    def _take(self, wait: bool) -> Iterator[Mapping[str, Any] | Path | str]:
        if wait:
            yield self._queue.get()
        while not self._queue.empty():
            yield self._queue.get()

    def _attempt(self, call: Callable[[], None]) -> bool:
        """True when the call is done with: it succeeded, or MLflow refuses it for good. Warns once an outage."""
        try:
            call()
        except Exception as error:  # whatever MLflow and its stores raise, the training goes on
            if not self._down:
                self._warn(f"MLflow: {_brief(error)}. The run goes on, and metrics.jsonl holds all of it.")
            self._down = True
            return self._session.run_id is not None and _is_refusal(error)
        return True


class _Session:
    """The calls to MLflow for one run, in the order of their first use. They block, and they raise."""

    def __init__(self, run: Run, runs: Path, on_run: Callable[[str], None], uri: str | None) -> None:
        self._run = run
        self._runs = runs
        self._on_run = on_run
        self._embedded = uri is None
        self._uri = uri or f"sqlite:///{runs / 'mlflow.db'}"
        self.run_id: str | None = None

    def open(self) -> None:
        """Goes on with the run that is named, or creates one. Does nothing once there is a run."""
        if self.run_id is not None:
            return
        import mlflow

        for name in ("mlflow", "urllib3"):  # what they have to say reaches the user through `warn`
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with _locked(self._runs / ".mlflow.lock") if self._embedded else nullcontext():
            self._client = mlflow.MlflowClient(tracking_uri=self._uri)
            experiment = self._experiment()
        self.run_id = self._known_run() or self._new_run(experiment)
        self._on_run(self.run_id)

    def _experiment(self) -> str:
        """The id of the experiment. Creating it comes first, so that two processes that both find none do no harm."""
        from mlflow.exceptions import MlflowException

        name = self._run.experiment
        try:
            return self._client.create_experiment(name, str(self._runs / "mlartifacts") if self._embedded else None)
        except MlflowException:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id

    def _known_run(self) -> str | None:
        """The run to go on with, set running again; None where none is named or the store does not know it any more."""
        from mlflow.exceptions import MlflowException

        if self._run.run_id is None:
            return None
        try:
            self._client.update_run(self._run.run_id, status="RUNNING")
        except MlflowException as error:
            if _is_refusal(error):
                return None
            raise
        return self._run.run_id

    def _new_run(self, experiment: str) -> str:
        tags = {**self._run.tags, "mlflow.user": "medssl"}  # else MLflow asks the operating system
        if self._run.parent is not None:
            tags["mlflow.parentRunId"] = self._run.parent
        return self._client.create_run(experiment, tags=tags, run_name=self._run.name).info.run_id

    def describe(self) -> None:
        """Logs the parameters that the run does not have yet: MLflow refuses to change one."""
        from mlflow.entities import Param

        assert self.run_id is not None
        known = self._client.get_run(self.run_id).data.params
        self._client.log_batch(self.run_id, params=[Param(key, text) for key, text in self._run.params.items() if key not in known])

    def metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Every number of the rows but infinities, which MLflow would store as 1.8e308."""
        from mlflow.entities import Metric

        assert self.run_id is not None
        self._client.log_batch(
            self.run_id,
            metrics=[
                Metric(key, float(value), row["timestamp"], int(row.get("step", 0)))
                for row in rows
                for key, value in row.items()
                if key not in ("step", "timestamp") and isinstance(value, Real) and not math.isinf(value)
            ],
        )

    def artifact(self, path: Path) -> None:
        assert self.run_id is not None
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), path.name)
        else:
            self._client.log_artifact(self.run_id, str(path))

    def end(self, status: str) -> None:
        assert self.run_id is not None
        self._client.set_terminated(self.run_id, status)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file: one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_refusal(error: Exception) -> bool:
    """Whether the same call would fail again: no such file, or what HTTP calls a client error. All else is an outage."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, FileNotFoundError) or (isinstance(error, MlflowException) and 400 <= error.get_http_status_code() < 500)


def _brief(error: Exception) -> str:
    """The first line of an error, without a password that may stand in an address."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    return _CREDENTIALS.sub("//", first)[:200].rstrip(".")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
