"""The calls that send a run to MLflow. They block, raise errors, and may be repeated: each call sends only what MLflow lacks.

The same calls are used during a run (from a thread, forwarder.py) and after it (`medssl track`). A call whose answer was lost may have
succeeded. So a run is searched by its key before a new one is created, and metrics are sent from the last step that MLflow has. Only
`MlflowClient` is used: no global active run, no login name, no script path.
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
from medssl.tracking.mlflow_models import ModelNotWritten, TrackedModel, send_model

KEY = "medssl.run"
_MAX_METRICS_PER_CALL = 1000  # MLflow's limit
_ABSOLUTE_PATH = re.compile(r'(^|")(/|~|\\|[A-Za-z]:[\\/]|file:)')
_CREDENTIALS = re.compile(r"//[^/\s]*@")
_TEMPORARY_STATUSES = (401, 403, 404, 408, 429)  # of a proxy, an expired password or a busy server: an outage too


@dataclass(frozen=True)
class Run:
    """The description of a run for MLflow. `key`: identifies the run. `parent`: the key of its parent run. `started`: in milliseconds since
    1970."""

    key: str
    name: str
    experiment: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    started: int | None = None


def public_params(config: Config) -> dict[str, str]:
    """The configuration as flat text {"train.lr": "0.001"}, without `data.path` and without any value that looks like an absolute path."""
    flat = {key: value if isinstance(value, str) else json.dumps(value) for key, value in _flatten(config.model_dump(mode="json"))}
    return {key: text for key, text in flat.items() if key != "data.path" and not _ABSOLUTE_PATH.search(text)}


class Session:
    """The calls for one run, in the order of their first use.

    `folder`: the run folder, with metrics.jsonl. `uri`: the store or server; by default MLFLOW_TRACKING_URI, else the embedded store next
    to the run folder (mlflow.db, mlartifacts/). `on_run(run_id)` is called as soon as MLflow has an id for the run.
    """

    def __init__(self, run: Run, folder: Path, on_run: Callable[[str], None] = lambda _: None, uri: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._run, self._on_run = run, on_run
        self._rows, self._offset = folder.resolve() / "metrics.jsonl", 0
        self._sent: dict[str, int] | None = None  # the last step sent of each metric; None if it must be read from MLflow
        runs = folder.resolve().parent
        given_uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._uri = given_uri or f"sqlite:///{runs / 'mlflow.db'}"
        self._artifact_uri = None if given_uri else str(runs / "mlartifacts")
        self.address = without_password(self._uri)
        self.run_id = ""

    def open(self) -> None:
        """Find the run and set its status to RUNNING, or create the run. Does nothing after the first success."""
        if self.run_id:
            return
        import mlflow

        for name in ("mlflow", "urllib3", "alembic"):  # exceptions already bring their messages to the user
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self._uri.startswith("sqlite:///"):
            _create_store(Path(self._uri.removeprefix("sqlite:///").partition("?")[0]))
        self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        self._experiment = self._find_experiment()
        run_id = self._find_run(self._run.key)
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
        else:
            tags = {KEY: self._run.key, "mlflow.user": "medssl"}  # else MLflow asks the operating system
            created = self._client.create_run(self._experiment, self._run.started, tags, self._run.name)
            run_id, self._sent = created.info.run_id, {}
        self.run_id = run_id
        self._on_run(run_id)

    def _find_experiment(self) -> str:
        """The id of the experiment. Tries to create it first, so that two processes can do this at the same time."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.create_experiment(self._run.experiment, self._artifact_uri)
        except MlflowException as error:
            found = self._client.get_experiment_by_name(self._run.experiment) if is_refusal(error) else None
            if found is None:
                raise
            return found.experiment_id

    def _find_run(self, key: str) -> str:
        """MLflow's id of the run with this key, "" if there is none."""
        query = f"tags.`{KEY}` = '{key}'"
        found = self._client.search_runs([self._experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
        return found[0].info.run_id if found else ""

    def send_params(self) -> None:
        """Send the tags, the data set, and the parameters that MLflow does not have yet, as MLflow refuses to change a parameter."""
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(self.run_id).data
        parent = self._find_run(self._run.parent) if self._run.parent else ""
        tags = {**self._run.tags, **({"mlflow.parentRunId": parent} if parent else {})}
        self._client.log_batch(
            self.run_id,
            params=[Param(key, text) for key, text in self._run.params.items() if key not in known.params],
            tags=[RunTag(key, text) for key, text in tags.items() if known.tags.get(key) != text],
        )
        self._send_dataset()

    def _send_dataset(self) -> None:
        """The data set by its name and its fingerprint; MLflow keeps it once, however often it is sent."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, fingerprint = self._run.tags.get("dataset"), self._run.tags.get("data")
        if name and fingerprint:
            dataset = Dataset(name, fingerprint, source_type="medssl", source="{}")
            self._client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", self._run.tags.get("kind", ""))])])

    def send_metrics(self) -> int:
        """Send the metrics of metrics.jsonl that MLflow lacks, and return their number. The rows are in the order of their steps.

        Metrics that MLflow refuses are left out; the refusal is raised after all others are sent.
        """
        if self._sent is None:
            self._sent = {last.key: last.step for last in self._client.get_run(self.run_id).data.to_proto().metrics}
        sent, self._sent = self._sent, None  # unknown until the call returns
        count, refusal = 0, None
        for metrics, offset in self._batches(sent):
            try:
                self._client.log_batch(self.run_id, metrics=metrics)
            except Exception as error:
                if not is_refusal(error):
                    raise
                refusal = error
            self._offset, count = offset, count + len(metrics)
            sent |= {metric.key: metric.step for metric in metrics}
        self._sent = sent
        if refusal is not None:
            raise refusal
        return count

    def _batches(self, sent: Mapping[str, int]) -> Iterator[tuple[list[Any], int]]:
        """The unsent metrics, in batches, each with the offset in the file up to which the batch reaches."""
        batch, offset = [], self._offset
        for row, end in jsonl.rows_from(self._rows, self._offset):
            metrics = [metric for metric in self._to_metrics(row) if metric.step > sent.get(metric.key, -1)]
            if len(batch) + len(metrics) > _MAX_METRICS_PER_CALL:
                yield batch, offset
                batch = []
            batch, offset = batch + metrics, end
        if offset > self._offset:
            yield batch, offset

    def _to_metrics(self, row: Mapping[str, Any]) -> list[Any]:
        """The numbers of a row as MLflow metrics with the row's `time`. null, which stands for NaN and infinity in JSON, becomes NaN."""
        from mlflow.entities import Metric

        step, seconds = int(row.get("step", 0)), row.get("time") or self._rows.stat().st_mtime
        return [
            Metric(re.sub(r"[^\w./ -]", "_", key), math.nan if value is None else float(value), round(seconds * 1000), step)
            for key, value in row.items()
            if key not in ("step", "time") and (value is None or isinstance(value, Real))
        ]

    def log_artifact(self, path: Path) -> bool:
        """Send a file, or the files of a folder, unless MLflow has a file of the same name and size. Returns whether any was sent."""
        artifact_path, files = (path.name, sorted(path.iterdir())) if path.is_dir() else (None, [path])
        existing = {(Path(known.path).name, known.file_size) for known in self._client.list_artifacts(self.run_id, artifact_path)}
        missing = [file for file in files if (file.name, file.stat().st_size) not in existing]
        for file in missing:
            self._client.log_artifact(self.run_id, str(file), artifact_path)
        return bool(missing)

    def log_model(self, model: TrackedModel) -> bool:
        """Log a model of the run, and register it if it has a name for that, unless MLflow has it. Returns whether anything was sent."""
        return send_model(self._client, self._experiment, self.run_id, model)

    def end(self, status: str, ended: int | None = None) -> None:
        """Set the status of the run to FINISHED, FAILED or KILLED, now or at `ended` (milliseconds since 1970)."""
        self._client.set_terminated(self.run_id, status, ended)


def server_version(uri: str, seconds: float) -> str:
    """The version of the server at `uri`, from one request with the credentials that a run would use. `seconds`: the time limit. Raises the
    errors of MLflow."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    answer = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0, timeout=seconds, raise_on_status=False)
    assert answer is not None, "only an asynchronous call has none"
    answer.raise_for_status()
    return answer.text.strip()[:20]


def is_refusal(error: Exception) -> bool:
    """Whether the same call would fail again: a missing file, a model that cannot be written, or an HTTP client error. All other errors are
    outages."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    else:
        status = getattr(getattr(error, "response", None), "status_code", 500)
    return isinstance(error, FileNotFoundError | ModelNotWritten) or (400 <= status < 500 and status not in _TEMPORARY_STATUSES)


def first_line(error: Exception) -> str:
    """The first line of an error message, with passwords in addresses removed."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    return without_password(first)[:200].rstrip(".")


def without_password(address: str) -> str:
    """`address` without the user and password of "http://user:password@host"."""
    return _CREDENTIALS.sub("//", address)


def _create_store(database: Path) -> None:
    """Create MLflow's sqlite store, under a file lock and with a temporary name. Otherwise two processes at once, a kill or a full disk
    could leave a store that MLflow can neither use nor repair. Raises an error at once if the store cannot be opened; MLflow would retry
    for 100 seconds."""
    with _hold_lock(database.with_name(".mlflow.lock")):
        if not database.exists():
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            for leftover in database.parent.glob(f".{database.name}.*.part*"):
                leftover.unlink()
            draft = database.with_name(
                f".{database.name}.{uuid.uuid4().hex}.part"
            )  # a new name, as MLflow caches stores by name, even failed ones
            store = SqlAlchemyStore(f"sqlite:///{draft}", str(database.parent / "mlartifacts"))
            store.engine.dispose()
            draft.replace(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA schema_version")


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    """Lock the file within the block: one process at a time."""
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
