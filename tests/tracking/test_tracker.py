"""A run's records: the rows are in metrics.jsonl whatever else happens, and mlflow.json says how MLflow knows the run again."""

import time

import pytest
from notes import noted

from medssl.config import Config, resolve
from medssl.errors import Interrupted
from medssl.tracking import mlflow_json
from medssl.tracking.jsonl import read
from medssl.tracking.tracker import Tracker, make_session

QUIET = resolve({"tracking": {"mlflow": False}})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    return tmp_path / "runs" / "first"


def test_every_row_is_in_the_file_with_its_time(folder):
    began = time.time()
    with Tracker(folder, QUIET, print) as tracker:
        tracker.log({"step": 1, "loss": 2.5})
        tracker.log_artifact(folder)
    (row,) = read(folder / "metrics.jsonl")
    assert began - 0.001 <= row.pop("time") <= time.time() + 0.001
    assert row == {"step": 1, "loss": 2.5}
    assert sorted(file.name for file in folder.iterdir()) == ["metrics.jsonl", "mlflow.json"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted("stop"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (RuntimeError(), "FAILED"),
        (None, "FINISHED"),
    ],
)
def test_the_status_tells_a_stop_from_a_failure(folder, error, status):
    try:
        with Tracker(folder, QUIET, print):
            assert noted(folder).status == "", "it goes on"
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    assert noted(folder).status == status


def test_a_resumed_run_goes_on_in_its_file_and_keeps_its_key(folder):
    keys = []
    for step in (0, 20):
        with Tracker(folder, QUIET, print, step=step, tags={"kind": "pretrain"}) as tracker:
            tracker.log({"step": step + 10})
            tracker.log({"step": step + 30})
            keys.append(noted(folder).key)
    assert [row["step"] for row in read(folder / "metrics.jsonl")] == [10, 30, 50]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32


def test_a_run_knows_the_key_of_its_parent(folder):
    second, stranger = folder.with_name("second"), folder.with_name("stranger")
    for other in (second, stranger):
        other.mkdir()
    with Tracker(folder, QUIET, print):
        pass
    with Tracker(second, QUIET, print, parent=folder):
        pass
    assert noted(second).parent == noted(folder).key != noted(second).key
    with Tracker(second, QUIET, print, parent=stranger):
        pass
    assert noted(second).parent == ""


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"run_id": "1"}', '{"key": "1", "other": 2}'])
def test_a_note_that_cannot_be_read_is_begun_anew(folder, damage):
    (folder / "mlflow.json").write_text(damage)
    assert mlflow_json.read(folder) is None
    assert len(mlflow_json.change(folder, status="KILLED").key) == 32


@pytest.mark.fault("R30")
@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"5", b"{", b"\xff", b'{"started": 5}', b'{"started": "soon"}', b"[" * 100_000])
def test_a_damaged_environment_file_tells_no_start_and_ends_no_run(tmp_path, content):
    mlflow_json.change(tmp_path, tags={})
    (tmp_path / "environment.json").write_bytes(content)
    assert make_session(tmp_path, Config())._run.started is None
    (tmp_path / "environment.json").write_text('{"started": "1970-01-01T00:00:01Z"}')
    assert make_session(tmp_path, Config())._run.started == 1000
