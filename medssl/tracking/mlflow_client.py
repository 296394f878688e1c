"""What MLflow is told of a run, by calls that block, that raise, and that may be repeated: each sends only what MLflow lacks.

They are the same while a run goes on (from a thread, forwarder.py) and after it (`medssl track`). A call whose answer was lost may have
done its work, so nothing is sent on trust: a run is looked for by its key before one is created, and numbers start behind the last step
that MLflow has. Only `MlflowClient` is used: no global active run, no login name, no script path.
"""

import fcntl
import json
import logging
import math
import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from medssl.config import Config
from medssl.tracking import jsonl

KEY = "medssl.run"
_AT_ONCE = 1000  # numbers in one call, MLflow's limit
_ABSOLUTE_PATH = re.compile(r'(^|")(/|~|\\|[A-Za-z]:[\\/]|file:)')
_CREDENTIALS = re.compile(r"//[^/\s]*@")
_TEMPORARY_STATUSES = (401, 403, 404, 408, 429)  # what a proxy, an expired password or a busy server says: an outage too


@dataclass(frozen=True)
class Run:
    """What MLflow is told of a run. `key` is the run's own, `parent` that of the run to nest it under; `started` in ms since 1970."""

    key: str
    name: str
    experiment: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    started: int | None = None


def public_params(config: Config) -> dict[str, str]:
    """The configuration as flat text {"train.lr": "0.001"}, without `data.path` and anything else that looks like an absolute path."""
    flat = {key: value if isinstance(value, str) else json.dumps(value) for key, value in _flatten(config.model_dump(mode="json"))}
    return {key: text for key, text in flat.items() if key != "data.path" and not _ABSOLUTE_PATH.search(text)}


class Session:
    """The calls for one run, in the order of their first use.

    `folder`: the run's, with metrics.jsonl. The embedded store (mlflow.db, mlartifacts/) lies beside it, used where neither `uri` nor
    MLFLOW_TRACKING_URI names another. `on_run` gets MLflow's id of the run as soon as there is one.
    """

    def __init__(self, run: Run, folder: Path, on_run: Callable[[str], None] = lambda _: None, uri: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        self._run, self._on_run = run, on_run
        self._rows, self._place = folder.resolve() / "metrics.jsonl", 0
        self._sent: dict[str, int] | None = None  # the last step of each number; None where only MLflow can tell
        runs = folder.resolve().parent
        named = uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._uri = named or f"sqlite:///{runs / 'mlflow.db'}"
        self._files = None if named else str(runs / "mlartifacts")
        self.address = without_password(self._uri)
        self.run_id = ""

    def open(self) -> None:
        """Finds the run and sets it running, or creates it. Does nothing once it is found."""
        if self.run_id:
            return
        import mlflow

        for name in ("mlflow", "urllib3", "alembic"):  # what they have to say reaches the user through an exception
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self._uri.startswith("sqlite:///"):
            _make_store(Path(self._uri.removeprefix("sqlite:///").partition("?")[0]))
        self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        self._experiment = self._find_experiment()
        run_id = self._find(self._run.key)
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
        else:
            tags = {KEY: self._run.key, "mlflow.user": "medssl"}  # else MLflow asks the operating system
            created = self._client.create_run(self._experiment, self._run.started, tags, self._run.name)
            run_id, self._sent = created.info.run_id, {}
        self.run_id = run_id
        self._on_run(run_id)

    def _find_experiment(self) -> str:
        """The id of the experiment. Creating it comes first, so that two processes that both find none do no harm."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.create_experiment(self._run.experiment, self._files)
        except MlflowException as error:
            found = self._client.get_experiment_by_name(self._run.experiment) if is_refusal(error) else None
            if found is None:
                raise
            return found.experiment_id

    def _find(self, key: str) -> str:
        """MLflow's id of the run with this key, "" where it has none."""
        wanted = f"tags.`{KEY}` = '{key}'"
        found = self._client.search_runs([self._experiment], wanted, max_results=1, order_by=["attributes.start_time ASC"])
        return found[0].info.run_id if found else ""

    def send_params(self) -> None:
        """Sends the tags, and the parameters that MLflow does not have: it refuses to change one."""
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(self.run_id).data
        parent = self._find(self._run.parent) if self._run.parent else ""
        tags = {**self._run.tags, **({"mlflow.parentRunId": parent} if parent else {})}
        self._client.log_batch(
            self.run_id,
            params=[Param(key, text) for key, text in self._run.params.items() if key not in known.params],
            tags=[RunTag(key, text) for key, text in tags.items() if known.tags.get(key) != text],
        )

    def send_metrics(self) -> int:
        """Sends the numbers of metrics.jsonl that MLflow lacks, and returns how many. Rows come in the order of their steps.

        What MLflow refuses for good is left out, and the refusal raised once all else is sent.
        """
        if self._sent is None:
            self._sent = {last.key: last.step for last in self._client.get_run(self.run_id).data.to_proto().metrics}
        sent, self._sent = self._sent, None  # until the call returns, nobody knows what arrived
        count, refusal = 0, None
        for metrics, place in self._batches(sent):
            try:
                self._client.log_batch(self.run_id, metrics=metrics)
            except Exception as error:
                if not is_refusal(error):
                    raise
                refusal = error
            self._place, count = place, count + len(metrics)
            sent |= {metric.key: metric.step for metric in metrics}
        self._sent = sent
        if refusal is not None:
            raise refusal
        return count

    def _batches(self, sent: Mapping[str, int]) -> Iterator[tuple[list[Any], int]]:
        """Numbers behind those that were sent, and the place in the file up to which they reach."""
        batch, place = [], self._place
        for row, behind in jsonl.rows_from(self._rows, self._place):
            metrics = [metric for metric in self._numbers(row) if metric.step > sent.get(metric.key, -1)]
            if len(batch) + len(metrics) > _AT_ONCE:
                yield batch, place
                batch = []
            batch, place = batch + metrics, behind
        if place > self._place:
            yield batch, place

    def _numbers(self, row: Mapping[str, Any]) -> list[Any]:
        """The numbers of a row as MLflow's, at the row's `time`. null, which is what JSON has for NaN and infinity, is NaN there."""
        from mlflow.entities import Metric

        step, seconds = int(row.get("step", 0)), row.get("time") or self._rows.stat().st_mtime
        return [
            Metric(re.sub(r"[^\w./ -]", "_", key), math.nan if value is None else float(value), round(seconds * 1000), step)
            for key, value in row.items()
            if key not in ("step", "time") and (value is None or isinstance(value, Real))
        ]

    def log_artifact(self, path: Path) -> bool:
        """Sends a file, or those of a folder, unless MLflow has one of its name and size. Says whether any was sent."""
        place, files = (path.name, sorted(path.iterdir())) if path.is_dir() else (None, [path])
        there = {(Path(known.path).name, known.file_size) for known in self._client.list_artifacts(self.run_id, place)}
        missing = [file for file in files if (file.name, file.stat().st_size) not in there]
        for file in missing:
            self._client.log_artifact(self.run_id, str(file), place)
        return bool(missing)

    def end(self, status: str, ended: int | None = None) -> None:
        """The run is FINISHED, FAILED or KILLED, now or at `ended` (ms since 1970)."""
        self._client.set_terminated(self.run_id, status, ended)


def server_version(uri: str, seconds: float) -> str:
    """What the server at `uri` says of itself, asked once, with the credentials that a run would use. Raises whatever MLflow raises."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    answer = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0, timeout=seconds, raise_on_status=False)
    assert answer is not None, "only an asynchronous call has none"
    answer.raise_for_status()
    return answer.text.strip()[:20]


def is_refusal(error: Exception) -> bool:
    """Whether the same call would fail again: no such file, or what HTTP calls the client's error. All else is an outage."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    else:
        status = getattr(getattr(error, "response", None), "status_code", 500)
    return isinstance(error, FileNotFoundError) or (400 <= status < 500 and status not in _TEMPORARY_STATUSES)


def first_line(error: Exception) -> str:
    """The first line of an error, without a password that may stand in an address."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    return without_password(first)[:200].rstrip(".")


def without_password(address: str) -> str:
    """`address` without the user and password of "http://user:password@host"."""
    return _CREDENTIALS.sub("//", address)


def _make_store(database: Path) -> None:
    """Creates MLflow's sqlite store under a file lock and a draft's name: two processes at once, a kill or a full disk would leave one
    that MLflow can neither use nor mend. Raises where it cannot be opened, which MLflow would try for 100 seconds."""
    with _hold_lock(database.with_name(".mlflow.lock")):
        if not database.exists():
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            for left in database.parent.glob(f".{database.name}.*.part*"):
                left.unlink()
            draft = database.with_name(f".{database.name}.{uuid.uuid4().hex}.part")  # MLflow keeps what it opened by name, even in vain
            store = SqlAlchemyStore(f"sqlite:///{draft}", str(database.parent / "mlartifacts"))
            store.engine.dispose()
            draft.replace(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA schema_version")


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    """Holds the lock file: one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
