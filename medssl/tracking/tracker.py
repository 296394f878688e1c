"""The tracker of one run: every row of metrics goes to metrics.jsonl, and from there to MLflow if `tracking.mlflow` is set."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medssl.config import Config
from medssl.errors import Interrupted, UserError
from medssl.files import cannot_write
from medssl.tracking import mlflow_json
from medssl.tracking.forwarder import Forwarder
from medssl.tracking.jsonl import JsonLines, truncate_after
from medssl.tracking.mlflow_client import Run, Session, public_params
from medssl.tracking.mlflow_models import TrackedModel

_NAMING_TAGS = ("kind", "mode", "method", "dataset", "label", "labels")
_MAX_NAME = 200  # characters; MLflow takes 250


class Tracker:
    """Metrics, figures and files of the run in `folder`. The end of the context ends the MLflow run with the right status.

    A run that resumes at `step` deletes the later rows and keeps its MLflow run, by the key in `folder`/mlflow.json. `parent`: the folder
    of the parent run. `tags`: describe the run ({"kind": "pretrain"}), without paths and names of persons. `stop()`: whether the process
    got a stop signal; `finish` then waits only a short time. The embedded MLflow store is next to the run folders.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        warn: Callable[[str], None],
        step: int = 0,
        parent: Path | None = None,
        tags: Mapping[str, str] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder, self._warn, self._disk_full = folder, warn, False
        truncate_after(folder / "metrics.jsonl", step)
        self._rows = JsonLines(folder / "metrics.jsonl")
        parent_info = mlflow_json.read(parent) if parent else None
        mlflow_json.change(folder, tags=dict(tags or {}), parent=parent_info.key if parent_info else "", status="")
        self._mlflow = Forwarder(make_session(folder, config), folder, warn, stop) if config.tracking.mlflow else None

    def log(self, row: Mapping[str, Any]) -> None:
        """Log one row of text and numbers, with its `step`; `time` (seconds since 1970) is added. If the disk is full, this warns once and
        keeps the rows until there is space."""
        try:
            self._rows.write({**row, "time": round(time.time(), 3)})
            self._disk_full = False
        except OSError as error:
            if not self._disk_full:
                self._warn(f"{cannot_write(self._folder / 'metrics.jsonl', error)} The run keeps its rows until it can.")
            self._disk_full = True
        if self._mlflow:
            self._mlflow.announce_row()

    def log_artifact(self, path: Path) -> None:
        """Send a file or folder of the run to MLflow."""
        if self._mlflow:
            self._mlflow.log_artifact(path)

    def log_model(self, model: TrackedModel) -> None:
        """Write a model of the run in the format of MLflow, and send it; all of that in the thread that sends."""
        if self._mlflow:
            self._mlflow.log_model(model)

    def finish(self, status: str = "FINISHED") -> None:
        """End the run with the status FINISHED, FAILED or KILLED."""
        with contextlib.suppress(UserError):  # a disk that is full
            mlflow_json.change(self._folder, status=status)
        if self._mlflow:
            self._mlflow.finish(status)
        try:
            self._rows.close()
        except OSError as error:
            self._warn(f"{cannot_write(self._folder / 'metrics.jsonl', error)} The rows since then are lost.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)  # Ctrl-C, and SIGTERM as SystemExit
        self.finish("FINISHED" if error is None else "KILLED" if stopped else "FAILED")


def make_session(folder: Path, config: Config) -> Session:
    """The session that sends a run folder to MLflow. The folder must have a mlflow.json."""
    info = mlflow_json.read(folder)
    assert info is not None
    run = Run(
        key=info.key,
        name=_run_name(info.tags) or folder.resolve().name,
        experiment=config.tracking.experiment,
        params=public_params(config),
        tags=info.tags,
        parent=info.parent,
        started=_started(folder),
    )

    def save_run_id(run_id: str) -> None:
        with contextlib.suppress(UserError):  # a disk that is full; the key finds the run again
            mlflow_json.change(folder, run_id=run_id)

    return Session(run, folder, save_run_id)


def _run_name(tags: Mapping[str, str]) -> str:
    """ "finetune linear nih pneumonia 10pct": what the run is, by its tags; "" for a run that does not name its data."""
    return " ".join(tags[key] for key in _NAMING_TAGS if tags.get(key))[:_MAX_NAME] if "dataset" in tags else ""


def read_environment(run: Path) -> dict[str, Any]:
    """The content of environment.json in a run folder; {} where there is none or where it is damaged: no run depends on it."""
    try:
        found = json.loads((run / "environment.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _started(run: Path) -> int | None:
    """When the run started, in milliseconds since 1970, where its folder says so."""
    try:
        return _milliseconds(read_environment(run)["started"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _milliseconds(moment: str) -> int:
    """ "2026-11-24T03:36:00Z" in milliseconds since 1970."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
