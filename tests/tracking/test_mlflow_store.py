"""The tracker against MLflow itself: an embedded sqlite store, a server process, a dead port."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from medssl.config import resolve
from medssl.tracking.mlflow_client import MlflowTracker, Run, public_params

CANARY = "canary"


def track(runs, run, rows, files=(), uri=None):
    """A whole run; returns its id and the warnings."""
    ids, warnings = [], []
    tracker = MlflowTracker(run, runs, warnings.append, ids.append, uri)
    for row in rows:
        tracker.log(row)
    for file in files:
        tracker.artifact(file)
    tracker.finish()
    tracker._thread.join()
    return ids[0], warnings


def client_of(runs):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A pretraining run that was resumed once, and a fine-tuning run under it, in one embedded store: (folder, parent id, child id)."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "views.png").write_bytes(b"pixels")
    config = resolve({"data": {"path": f"/{CANARY}_data/cohort"}, "seed": 7})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            patch.setenv(name, f"{CANARY}_login")
        patch.setattr(sys, "argv", [f"/{CANARY}_script.py"])
        run = Run("pretrain-1", "medssl", public_params(config), {"kind": "pretrain"})
        rows = [{"step": step, "epoch": 1, "loss": 1 / (step + 1), "gain": float("inf"), "note": "text"} for step in range(1200)]
        parent, warnings = track(runs, run, rows, [runs / "views.png"])
        assert warnings == []
        again = Run("pretrain-1", "medssl", {**run.params, "seed": "8", "new": "1"}, run_id=parent)
        assert track(runs, again, [{"step": 1200, "loss": 5.0}]) == (parent, [])
        child, warnings = track(runs, Run("finetune-1", "medssl", parent=parent), [{"step": 0, "auroc": 0.9}])
        assert warnings == []
    return runs, parent, child


def test_every_metric_arrives_at_its_step(embedded):
    runs, parent, _ = embedded
    history = client_of(runs).get_metric_history(parent, "loss")
    assert [(metric.step, metric.value) for metric in history] == [*((step, 1 / (step + 1)) for step in range(1200)), (1200, 5.0)]
    assert set(client_of(runs).get_run(parent).data.metrics) == {"epoch", "loss"}


def test_the_run_is_finished_and_has_its_file_beside_the_store(embedded):
    runs, parent, _ = embedded
    run = client_of(runs).get_run(parent)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "pretrain-1")
    assert (runs / "mlartifacts" / parent / "artifacts" / "views.png").read_bytes() == b"pixels"


def test_a_resumed_run_keeps_its_parameters_and_gets_the_new_ones(embedded):
    runs, parent, _ = embedded
    params = client_of(runs).get_run(parent).data.params
    assert (params["seed"], params["new"]) == ("7", "1")


def test_fine_tuning_is_nested_under_its_pretraining(embedded):
    runs, parent, child = embedded
    run = client_of(runs).get_run(child)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.info.experiment_id == client_of(runs).get_run(parent).info.experiment_id


def test_the_store_knows_neither_the_login_nor_the_script_nor_the_path_of_the_data(embedded):
    runs, parent, child = embedded
    assert CANARY.encode() not in (runs / "mlflow.db").read_bytes()
    for run in map(client_of(runs).get_run, (parent, child)):
        assert run.info.user_id == "medssl"
        assert not {"mlflow.source.name", "mlflow.source.git.commit"} & set(run.data.tags)


def test_the_console_stays_clean(tmp_path, capfd):
    _, warnings = track(tmp_path, Run("a", "medssl"), [{"step": 0, "loss": 1.0}])
    assert (warnings, *capfd.readouterr()) == ([], "", "")


def test_a_run_that_the_store_has_lost_is_begun_anew(embedded):
    runs, parent, _ = embedded
    new, warnings = track(runs, Run("b", "medssl", run_id="0" * 32), [{"step": 0, "loss": 1.0}])
    assert new not in ("0" * 32, parent)
    assert warnings == []


def test_three_processes_may_create_one_store_at_the_same_time(tmp_path, repository):
    code = (
        "import sys; from pathlib import Path; from medssl.tracking.mlflow_client import MlflowTracker, Run\n"
        "tracker = MlflowTracker(Run(sys.argv[2], 'medssl', {'a': '1'}), Path(sys.argv[1]), lambda text: print(text, flush=True))\n"
        "for step in range(50): tracker.log({'step': step, 'loss': 1.0})\n"
        "tracker.finish(); tracker._thread.join()"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"run{i}"], cwd=repository, stdout=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    said = [process.communicate(timeout=250)[0].replace("MLflow did not take everything in time", "") for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert not [text for text in said if "MLflow:" in text]
    client = client_of(tmp_path)
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [(f"run{i}", "FINISHED") for i in range(3)]
    assert all(len(client.get_metric_history(run.info.run_id, "loss")) == 50 for run in found)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_dead_port_costs_the_training_nothing_and_one_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{free_port()}")
    warnings = []
    tracker = MlflowTracker(Run("a", "medssl"), tmp_path, warnings.append)
    slowest = 0.0
    for step in range(200):
        began = time.monotonic()
        tracker.log({"step": step, "loss": 1.0})
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.01)
    while not warnings:
        time.sleep(0.01)
    began = time.monotonic()
    tracker.finish()
    assert time.monotonic() - began < 15
    tracker._thread.join()
    assert slowest < 1
    assert sum("metrics.jsonl" in text for text in warnings) == 1
    assert "secret" not in warnings[0]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(process, uri, folder / "log.txt")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(process: subprocess.Popen, uri: str, log: Path) -> None:
    limit = time.monotonic() + 200
    while time.monotonic() < limit and process.poll() is None:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=2).close()  # noqa: S310 - an address of this machine
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not come up: {log.read_text('utf-8', errors='replace')[-2000:]}")


def test_a_server_gets_the_run_and_its_files_and_the_console_stays_clean(server, tmp_path, monkeypatch, capfd):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(b"pixels")
    rows = [{"step": step, "loss": float(step)} for step in range(100)]
    run_id, warnings = track(tmp_path, Run("a", "medssl", {"seed": "1"}, {"kind": "pretrain"}), rows, [tmp_path / "figures"])
    assert (warnings, *capfd.readouterr()) == ([], "", "")
    client = MlflowClient(tracking_uri=server)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.params, run.data.tags["mlflow.user"]) == ("FINISHED", {"seed": "1"}, "medssl")
    assert [metric.value for metric in client.get_metric_history(run_id, "loss")] == [float(step) for step in range(100)]
    assert [item.path for item in client.list_artifacts(run_id, "figures")] == ["figures/a.png"]
    assert not (tmp_path / "mlflow.db").exists()
