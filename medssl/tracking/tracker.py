"""The records of one run: every row goes to metrics.jsonl, and from there on to MLflow where that is wanted."""

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


class Tracker:
    """Rows, figures and files of the run in `folder`. Leaving the context ends the MLflow run with the right status.

    A run that goes on from `step` drops the later rows and keeps its MLflow run, by the key in `folder`/mlflow.json. `parent`: the
    folder of the run to nest this one under. `tags` describe the run ({"kind": "pretrain"}); no path and no name of a person goes there.
    `stop` is true once the process was asked to end: then `finish` is brief. The embedded MLflow store lies beside the run folders.
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
        self._folder, self._warn, self._full = folder, warn, False
        truncate_after(folder / "metrics.jsonl", step)
        self._rows = JsonLines(folder / "metrics.jsonl")
        above = mlflow_json.read(parent) if parent else None
        mlflow_json.change(folder, tags=dict(tags or {}), parent=above.key if above else "", status="")
        self._mlflow = Forwarder(make_session(folder, config), folder, warn, stop) if config.tracking.mlflow else None

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of text and numbers, with its `step`; `time` (seconds since 1970) is added. A full disk is warned of, once, and the
        rows are kept until there is room."""
        try:
            self._rows.write({**row, "time": round(time.time(), 3)})
            self._full = False
        except OSError as error:
            if not self._full:
                self._warn(f"{cannot_write(self._folder / 'metrics.jsonl', error)} The run keeps its rows until it can.")
            self._full = True
        if self._mlflow:
            self._mlflow.announce_row()

    def log_artifact(self, path: Path) -> None:
        """A file or folder of the run that MLflow should have too."""
        if self._mlflow:
            self._mlflow.log_artifact(path)

    def finish(self, status: str = "FINISHED") -> None:
        """Ends the run: FINISHED, FAILED or KILLED."""
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
    """The calls that bring a run folder with a note to MLflow."""
    known = mlflow_json.read(folder)
    assert known is not None
    started = folder / "environment.json"
    run = Run(
        key=known.key,
        name=folder.resolve().name,
        experiment=config.tracking.experiment,
        params=public_params(config),
        tags=known.tags,
        parent=known.parent,
        started=_milliseconds(json.loads(started.read_text("utf-8"))["started"]) if started.is_file() else None,
    )

    def remember(run_id: str) -> None:
        with contextlib.suppress(UserError):  # a disk that is full; the key finds the run again
            mlflow_json.change(folder, run_id=run_id)

    return Session(run, folder, remember)


def _milliseconds(moment: str) -> int:
    """ "2026-11-24T03:36:00Z" in milliseconds since 1970."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
