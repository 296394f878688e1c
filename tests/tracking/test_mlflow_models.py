"""Models that are logged and registered, in MLflow's embedded store: once, whole, and never at the cost of the run."""

import pytest

from medssl.config import resolve
from medssl.tracking import forwarder
from medssl.tracking.mlflow_client import Run, Session
from medssl.tracking.mlflow_models import DATA, PROGRAM, ModelNotWritten, TrackedModel, write_mlmodel
from medssl.tracking.tracker import Tracker


class Written:
    """Writes a small model, and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self, folder):
        self.times += 1
        (folder / DATA).mkdir(parents=True)
        (folder / DATA / PROGRAM).write_bytes(b"program")
        write_mlmodel(folder, (1, 16, 16), 8, metadata={})

    def model(self, digest="ab12", registered_name=""):
        return TrackedModel("encoder", digest, self, registered_name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")  # one store, because its tables take seconds


def session_of(runs, name):
    (runs / name).mkdir(exist_ok=True)
    session = Session(Run(name, name, "models"), runs / name)
    session.open()
    return session


def logged_models(session):
    return session._client.search_logged_models([session._experiment], f"source_run_id = '{session.run_id}'")


def test_a_model_is_logged_once_with_the_digest_of_its_weights(runs):
    write = Written()
    sent = [session_of(runs, "once").log_model(write.model()) for _ in range(2)]
    assert (sent, write.times) == ([True, False], 1)
    session = session_of(runs, "once")
    (found,) = logged_models(session)
    assert (found.name, found.status.value, found.tags["weights_sha256"]) == ("encoder", "READY", "ab12")
    outputs = session._client.get_run(session.run_id).outputs
    assert outputs
    assert [output.model_id for output in outputs.model_outputs] == [found.model_id]
    described = (runs / "mlartifacts" / "models" / found.model_id / "artifacts" / "MLmodel").read_text()
    assert found.model_id in described
    assert session.run_id in described
    assert session._client.search_registered_models() == []


def test_a_run_that_is_trained_on_has_another_model(runs):
    session, write = session_of(runs, "longer"), Written()
    assert [session.log_model(write.model(digest)) for digest in ("ab", "cd", "ab")] == [True, True, False]
    assert {found.tags["weights_sha256"] for found in logged_models(session)} == {"ab", "cd"}


def test_versions_have_the_digest_and_the_highest_has_the_alias(runs):
    session, write = session_of(runs, "registered"), Written()
    sent = [session.log_model(write.model(digest, "chest-encoder")) for digest in ("ab", "cd", "ab")]
    assert (sent, write.times) == ([True, True, False], 2)
    versions = session._client.search_model_versions("name = 'chest-encoder'")
    assert {found.version: found.tags["weights_sha256"] for found in versions} == {1: "ab", 2: "cd"}
    assert session._client.get_model_version_by_alias("chest-encoder", "newest").version == 2
    folders = {found.source for found in versions}
    assert folders == {found.artifact_location for found in logged_models(session)}


def test_an_upload_that_broke_off_is_completed_under_the_same_id(runs, monkeypatch):
    from mlflow import MlflowClient

    session, write = session_of(runs, "broken"), Written()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", lambda *_: (_ for _ in ()).throw(ConnectionError("gone")))
        with pytest.raises(ConnectionError):
            session.log_model(write.model())
    (pending,) = logged_models(session)
    assert pending.status.value == "PENDING"
    assert session.log_model(write.model())
    (found,) = logged_models(session)
    assert (found.model_id, found.status.value) == (pending.model_id, "READY")


def test_a_model_that_cannot_be_written_leaves_nothing_and_is_said_once(runs):
    def fail(folder):
        raise ZeroDivisionError("no such operation")

    broken, warnings = TrackedModel("encoder", "ab", fail), []
    (runs / "unwritten").mkdir()
    with Tracker(runs / "unwritten", resolve({}), warnings.append) as tracker:
        tracker.log({"step": 0, "loss": 1.0})
        tracker.log_model(broken)
    tracker._mlflow._thread.join()  # pyright: ignore[reportOptionalMemberAccess]
    assert len(warnings) == 1
    assert "the model 'encoder' cannot be written (ZeroDivisionError: no such operation)" in warnings[0]
    session = session_of(runs, "unwritten")
    assert logged_models(session) == []
    with pytest.raises(ModelNotWritten):
        session.log_model(broken)


@pytest.mark.fault("R16")
def test_without_a_server_no_model_is_written_and_the_run_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(forwarder, "CLOSE_SECONDS", 0.3)
    write, warnings = Written(), []
    with Tracker(tmp_path, resolve({}), warnings.append) as tracker:
        tracker.log_model(write.model())
    assert write.times == 0
    assert len(warnings) == 1
    assert f"medssl track {tmp_path}" in warnings[0]
