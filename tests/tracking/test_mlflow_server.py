"""The tracker against a real MLflow server, which is stopped, killed and started again while a training goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from notes import noted

from medssl import cli
from medssl.config import resolve
from medssl.runs.lock import lock_run_dir
from medssl.runs.run_dir import write_description
from medssl.tracking import forwarder
from medssl.tracking.jsonl import read
from medssl.tracking.mlflow_models import TrackedModel, write_mlmodel
from medssl.tracking.tracker import Tracker

pytestmark = pytest.mark.slow


class Server:
    """`mlflow server` with one worker on a free port, and a store that outlives it."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"

    def start(self):
        """Returns once it answers, which takes ten seconds."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--artifacts-destination", str(self.folder / "files")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        limit = time.monotonic() + 200
        while self.process.poll() is None and time.monotonic() < limit:
            try:
                return urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()  # noqa: S310 - an address of this machine
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
        raise RuntimeError(f"the server did not come up: {(self.folder / 'log.txt').read_text('utf-8', errors='replace')[-2000:]}")

    def send(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    here = Server(tmp_path_factory.mktemp("server"))
    here.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", here.uri)
        patch.setattr(forwarder, "RETRY_SECONDS", 0.1)
        yield here
    here.kill()


@pytest.fixture
def client(server):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.uri)


class Training:
    """A run folder, a tracker, and how long its slowest call took."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        config = resolve({"tracking": {"experiment": folder.name}})  # of its own
        write_description(folder, config, "pretrain")
        self.folder, self.warnings, self.steps, self.slowest = folder, [], 0, 0.0
        self.lock = lock_run_dir(folder)
        self.lock.__enter__()
        self.tracker = Tracker(folder, config, self.warnings.append, tags={"kind": "pretrain"})

    def until(self, condition):
        limit = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < limit, self.warnings
            began = time.monotonic()
            self.tracker.log({"step": self.steps, "loss": self.steps / 8})
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.steps += 1
            time.sleep(0.01)

    def known(self):
        return noted(self.folder).run_id

    def finish(self, status="FINISHED"):
        self.tracker.finish(status)
        self.lock.__exit__(None, None, None)
        assert self.slowest < 1
        assert len(read(self.folder / "metrics.jsonl")) == self.steps

    def history(self, client):
        """[(step, loss)] in the one run of this name that MLflow has."""
        (run,) = client.search_runs([client.get_experiment_by_name(self.folder.name).experiment_id])
        assert run.info.run_name == self.folder.name
        return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")]

    def whole(self):
        return [(step, step / 8) for step in range(self.steps)]


def test_a_server_gets_the_run_and_its_files_and_the_console_stays_clean(client, tmp_path, capfd):
    training = Training(tmp_path / "runs" / "a")
    (training.folder / "figures").mkdir()
    (training.folder / "figures" / "a.png").write_bytes(b"pixels")
    (training.folder / "views.png").write_bytes(b"pixels")
    training.until(lambda: training.steps == 100)
    training.tracker.log_artifact(training.folder / "figures")
    training.tracker.log_artifact(training.folder / "views.png")
    training.finish()
    assert (training.warnings, *capfd.readouterr()) == ([], "", "")
    run = client.get_run(training.known())
    assert (run.info.status, run.data.params["seed"], run.data.tags["mlflow.user"]) == ("FINISHED", "0", "medssl")
    assert [(item.path, item.file_size) for item in client.list_artifacts(training.known())] == [("figures", None), ("views.png", 6)]
    assert [item.path for item in client.list_artifacts(training.known(), "figures")] == ["figures/a.png"]
    assert training.history(client) == training.whole()
    assert not (tmp_path / "runs" / "mlflow.db").exists()


def test_a_server_gets_a_model_of_the_run_and_a_version_in_its_registry(client, tmp_path, capfd):
    def write(folder):
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "model.pt2").write_bytes(b"program")
        write_mlmodel(folder, (1, 16, 16), 8, metadata={})

    training = Training(tmp_path / "runs" / "model")
    training.tracker.log_model(TrackedModel("encoder", "ab12", write, "chest-encoder"))
    training.finish()
    assert (training.warnings, *capfd.readouterr()) == ([], "", "")
    (version,) = client.search_model_versions("name = 'chest-encoder'")
    assert (version.run_id, version.tags) == (training.known(), {"weights_sha256": "ab12"})
    assert client.get_model_version_by_alias("chest-encoder", "newest").version == version.version
    (model,) = client.search_logged_models([client.get_experiment_by_name("model").experiment_id])
    assert (model.name, model.status.value, version.source) == ("encoder", "READY", model.artifact_location)
    assert {item.path for item in client.list_logged_model_artifacts(model.model_id)} >= {"MLmodel", "data", "requirements.txt"}


@pytest.mark.fault("R16")
def test_a_server_that_hangs_for_a_while_gets_every_number_once(server, client, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    training = Training(tmp_path / "runs" / "b")
    training.until(training.known)
    for outages in (1, 2):
        server.send(signal.SIGSTOP)
        training.until(lambda number=outages: len(training.warnings) == number)
        server.send(signal.SIGCONT)
        training.until(lambda: not training.tracker._mlflow._warned)  # pyright: ignore[reportOptionalMemberAccess]
    training.finish()
    assert len(training.warnings) == 2
    assert training.history(client) == training.whole()


@pytest.mark.fault("R16")
def test_a_call_that_the_server_did_and_whose_answer_was_lost_is_not_done_twice(client, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    lost = []

    def losing_the_first_answer(name):
        call = getattr(MlflowClient, name)

        def done(*arguments, **options):
            result = call(*arguments, **options)
            if name not in lost:
                lost.append(name)
                raise ConnectionError("the answer was lost")
            return result

        return done

    for name in ("create_experiment", "create_run", "log_batch", "update_run"):
        monkeypatch.setattr(MlflowClient, name, losing_the_first_answer(name))
    training = Training(tmp_path / "runs" / "c")
    training.until(lambda: len(lost) == 4)
    training.until(lambda: not training.tracker._mlflow._warned)  # pyright: ignore[reportOptionalMemberAccess]
    training.finish()
    assert training.history(client) == training.whole(), "of one run"


def command(capsys, *folders):
    """What `medssl track` said, and its exit code."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.app(["track", *map(str, folders)])
    return end.value.code, *capsys.readouterr()


@pytest.mark.fault("R16")
def test_what_a_killed_server_missed_is_sent_when_it_is_back_by_the_run_or_by_the_command(server, client, tmp_path, capsys):
    lasts, ends, never = (Training(tmp_path / "runs" / name) for name in ("lasts", "ends", "never"))
    for training in (lasts, ends):
        training.until(training.known)
    server.kill()
    for training in (lasts, ends, never):
        training.until(lambda one=training: one.warnings and one.steps > 300)
    ends.finish()
    never.finish("KILLED")
    began = time.monotonic()
    code, _, error = command(capsys, ends.folder)
    assert time.monotonic() - began < 8
    assert (code, error.count("\n")) == (2, 1)
    assert f"MLflow at {server.uri} did not accept the records of {ends.folder}" in error
    server.start()
    lasts.until(lambda: not lasts.tracker._mlflow._warned)  # pyright: ignore[reportOptionalMemberAccess]
    code, said, error = command(capsys, tmp_path / "runs")
    assert (code, said.count("\n")) == (2, 2), "those of the two that have ended are sent"
    assert error.startswith(f"error: The run folder {lasts.folder} is in use")
    lasts.finish()
    code, said, error = command(capsys, tmp_path / "runs")
    assert (code, said.count("nothing was missing"), error) == (0, 3, "")
    for training, status in ((lasts, "FINISHED"), (ends, "FINISHED"), (never, "KILLED")):
        assert training.history(client) == training.whole()
        assert client.get_run(training.known()).info.status == status
        assert len(training.warnings) == 1
