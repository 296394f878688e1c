"""A run's records: the rows are in metrics.jsonl whatever MLflow does, and a resumed run goes on in both."""

import json

import pytest

from medssl.config import resolve
from medssl.errors import Interrupted
from medssl.tracking import tracker as tracker_module
from medssl.tracking.jsonl import read
from medssl.tracking.tracker import Tracker


class Forwarder:
    """Stands in for MlflowTracker, and remembers what it is told."""

    made: list["Forwarder"]

    def __init__(self, run, runs, warn, on_run):
        self.run, self.runs, self.warn = run, runs, warn
        self.rows, self.files, self.status = [], [], None
        on_run(f"id-of-{run.name}")
        Forwarder.made.append(self)

    def log(self, row):
        self.rows.append(row)

    def artifact(self, path):
        self.files.append(path)

    def finish(self, status):
        self.status = status


@pytest.fixture(autouse=True)
def made(monkeypatch):
    Forwarder.made = []
    monkeypatch.setattr(tracker_module, "MlflowTracker", Forwarder)
    return Forwarder.made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    return tmp_path / "runs" / "first"


def test_every_row_goes_to_the_file_and_to_mlflow(folder, made):
    with Tracker(folder, resolve({"tracking": {"experiment": "lungs"}}), print, tags={"kind": "pretrain"}) as tracker:
        tracker.log({"step": 1, "loss": 2.5})
        tracker.artifact(folder / "views.png")
    (mlflow,) = made
    assert read(folder / "metrics.jsonl") == mlflow.rows == [{"step": 1, "loss": 2.5}]
    assert (mlflow.files, mlflow.runs, mlflow.status) == ([folder / "views.png"], folder.parent, "FINISHED")
    assert (mlflow.run.name, mlflow.run.experiment, mlflow.run.tags) == ("first", "lungs", {"kind": "pretrain"})
    assert mlflow.run.params["tracking.experiment"] == "lungs"
    assert json.loads((folder / "mlflow.json").read_text()) == {"run_id": "id-of-first"}


@pytest.mark.parametrize(("error", "status"), [(Interrupted, "KILLED"), (KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")])
def test_the_status_tells_a_stop_from_a_failure(folder, made, error, status):
    with pytest.raises(error), Tracker(folder, resolve({}), print):
        raise error
    assert made[0].status == status


def test_a_resumed_run_goes_on_in_its_file_and_in_its_mlflow_run(folder, made):
    for step in (0, 20):
        with Tracker(folder, resolve({}), print, step=step) as tracker:
            tracker.log({"step": step + 10})
            tracker.log({"step": step + 30})
    assert [row["step"] for row in read(folder / "metrics.jsonl")] == [10, 30, 50]
    assert [mlflow.run.run_id for mlflow in made] == [None, "id-of-first"]


def test_a_run_is_nested_under_its_parent_where_mlflow_knows_that_one(folder, made):
    other = folder.with_name("second")
    other.mkdir()
    for _ in range(2):
        with Tracker(other, resolve({}), print, parent=folder):
            pass
        (folder / "mlflow.json").write_text('{"run_id": "p"}')
    assert [mlflow.run.parent for mlflow in made] == [None, "p"]


def test_without_mlflow_the_rows_are_written_all_the_same(folder, made):
    with Tracker(folder, resolve({"tracking": {"mlflow": False}}), print) as tracker:
        tracker.log({"step": 1})
        tracker.artifact(folder)
    assert read(folder / "metrics.jsonl") == [{"step": 1}]
    assert (made, [file.name for file in folder.iterdir()]) == ([], ["metrics.jsonl"])
