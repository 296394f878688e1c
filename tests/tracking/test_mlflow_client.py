"""The tracker's thread against a stand-in for MLflow that fails on demand: what it promises whatever MLflow does."""

import threading
import time
from pathlib import Path

import pytest

from medssl.config import resolve
from medssl.tracking import mlflow_client
from medssl.tracking.mlflow_client import MlflowTracker, Run, public_params


class Session:
    """Records what it is sent; `fail(name)` says which exception a call raises, if any."""

    def __init__(self, *_):
        self.run_id = None
        self.rows, self.files, self.status = [], [], None
        self.fail = lambda name: None

    def _call(self, name):
        if error := self.fail(name):
            raise error

    def open(self):
        self._call("open")
        self.run_id = "r1"

    def describe(self):
        self._call("describe")

    def metrics(self, rows):
        self._call("metrics")
        self.rows += rows

    def artifact(self, path):
        self._call(path.name)
        self.files.append(path.name)

    def end(self, status):
        self._call("end")
        self.status = status


@pytest.fixture
def session(monkeypatch):
    fake = Session()
    monkeypatch.setattr(mlflow_client, "_Session", lambda *_: fake)
    monkeypatch.setattr(mlflow_client, "RETRY_SECONDS", 0.01)
    yield fake
    assert not [thread for thread in threading.enumerate() if thread.name == "mlflow"], "a thread was left behind"


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def tracker(session, warnings, tmp_path):
    return MlflowTracker(Run("a", "e"), tmp_path, warnings.append)


def wait_until(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_every_row_and_file_arrives_once_and_in_order(tracker, session, warnings):
    for step in range(500):
        tracker.log({"step": step})
    tracker.artifact(Path("a.png"))
    tracker.finish()
    assert [row["step"] for row in session.rows] == list(range(500))
    assert (session.files, session.status, warnings) == (["a.png"], "FINISHED", [])


def test_nothing_is_lost_in_an_outage_that_ends_and_it_is_told_once(tracker, session, warnings):
    tries = {"open": 3, "metrics": 4, "a.png": 2}
    counted = dict.fromkeys(tries, 0)

    def fail(name):
        counted[name] = counted.get(name, 0) + 1
        return ConnectionError("refused") if counted[name] <= tries.get(name, 0) else None

    session.fail = fail
    for step in range(20):
        tracker.log({"step": step})
        time.sleep(0.005)
    tracker.artifact(Path("a.png"))
    wait_until(lambda: session.files and len(session.rows) == 20)
    tracker.finish()
    assert [row["step"] for row in session.rows] == list(range(20))
    assert warnings[0] == "MLflow: refused. The run goes on, and metrics.jsonl holds all of it."
    assert session.status == "FINISHED"


def test_a_dead_server_warns_once_however_long_the_run_lasts(tracker, session, warnings):
    session.fail = lambda name: ConnectionError("refused\nsecond line")
    for step in range(50):
        tracker.log({"step": step})
        time.sleep(0.002)
    tracker.finish()
    assert warnings == ["MLflow: refused. The run goes on, and metrics.jsonl holds all of it."]


def test_logging_does_not_wait_for_a_server_that_hangs(tracker, session, warnings, monkeypatch):
    monkeypatch.setattr(mlflow_client, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(mlflow_client, "UPLOAD_SECONDS", 0.2)
    hanging = threading.Event()
    session.fail = lambda name: hanging.wait(20) and None
    began = time.monotonic()
    try:
        for step in range(1000):
            tracker.log({"step": step})
        tracker.finish()
        assert time.monotonic() - began < 10, "the server hangs for 20 seconds"
        assert warnings == ["MLflow did not take everything in time. metrics.jsonl holds all of it."]
    finally:
        hanging.set()
        tracker._thread.join()


def test_a_missing_file_is_dropped_and_all_else_arrives(tracker, session, warnings):
    session.fail = lambda name: FileNotFoundError("no a.png") if name == "a.png" else None
    tracker.artifact(Path("a.png"))
    tracker.artifact(Path("b.png"))
    wait_until(lambda: session.files)
    tracker.log({"step": 1})
    tracker.finish("FAILED")
    assert (session.files, len(session.rows), session.status, len(warnings)) == (["b.png"], 1, "FAILED", 1)


def test_a_password_in_an_address_does_not_reach_the_warning(tracker, session, warnings):
    session.fail = lambda name: ConnectionError("no answer from http://user:secret@host:5000/api")
    tracker.finish()
    assert "secret" not in warnings[0]
    assert "http://host:5000/api" in warnings[0]


def test_public_params_leave_out_the_data_path_and_every_absolute_path():
    config = resolve(
        {
            "data": {"path": "relative/folder", "source": {"name": "folder", "table": "/canary/labels.csv"}},
            "backbone": {"name": "timm", "arguments": {"files": ["~/canary", "x"], "depth": 3}},
            "preset": "C:\\canary\\own.yaml",
            "train": {"lr": 0.5},
        }
    )
    params = public_params(config)
    assert "data.path" not in params
    assert not [text for text in params.values() if "canary" in text or "relative" in text]
    assert params["train.lr"] == "0.5"
    assert params["method.name"] == "pnnclr"
    assert params["backbone.arguments.depth"] == "3"
    assert params["method.stop_gradient"] == "true"
