"""The records of one run: every row goes to metrics.jsonl, and from there on to MLflow where that is wanted."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medssl.config import Config
from medssl.errors import Interrupted
from medssl.tracking.jsonl import JsonLines, truncate_after
from medssl.tracking.mlflow_client import MlflowTracker, Run, public_params


class Tracker:
    """Rows, figures and files of the run in `folder`. Leaving the context ends the MLflow run with the right status.

    A run that goes on from `step` drops the later rows and keeps its MLflow run, whose id stands in `folder`/mlflow.json. `parent`: the
    folder of the run to nest this one under. `tags` describe the run ({"kind": "pretrain"}); no path and no name of a person goes there.
    The embedded MLflow store lies beside the run folders.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        warn: Callable[[str], None],
        step: int = 0,
        parent: Path | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        truncate_after(folder / "metrics.jsonl", step)
        self._rows = JsonLines(folder / "metrics.jsonl")
        self._mlflow: MlflowTracker | None = None
        if config.tracking.mlflow:
            run = Run(
                name=folder.name,
                experiment=config.tracking.experiment,
                params=public_params(config),
                tags=tags or {},
                parent=_run_id(parent) if parent else None,
                run_id=_run_id(folder),
            )
            note = folder / "mlflow.json"
            self._mlflow = MlflowTracker(run, folder.parent, warn, on_run=lambda run_id: _write(note, run_id))

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of text and numbers, with its `step`."""
        self._rows.write(row)
        if self._mlflow:
            self._mlflow.log(row)

    def artifact(self, path: Path) -> None:
        """A file or folder of the run that MLflow should have too."""
        if self._mlflow:
            self._mlflow.artifact(path)

    def finish(self, status: str = "FINISHED") -> None:
        """Ends the run: FINISHED, FAILED or KILLED."""
        self._rows.close()
        if self._mlflow:
            self._mlflow.finish(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        self.finish("FINISHED" if error is None else "KILLED" if stopped else "FAILED")


def _run_id(folder: Path) -> str | None:
    """MLflow's id of the run in a folder, None where MLflow never heard of it."""
    note = folder / "mlflow.json"
    return json.loads(note.read_text("utf-8"))["run_id"] if note.exists() else None


def _write(note: Path, run_id: str) -> None:
    draft = note.with_name(".mlflow.json.part")
    draft.write_text(json.dumps({"run_id": run_id}), "utf-8")
    draft.replace(note)
