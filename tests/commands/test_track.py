"""`medssl track`: runs that MLflow never heard of, or heard of in part, arrive whole and once, without a path or a name."""

import json
import socket
import sqlite3
import time

import pytest

from medssl import cli
from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.commands.track import track
from medssl.config import resolve
from medssl.errors import UserError
from medssl.runs.lock import lock_run_dir
from medssl.runs.run_dir import write_description
from medssl.tracking import mlflow_json
from medssl.tracking.jsonl import read
from medssl.tracking.tracker import Tracker

pytestmark = pytest.mark.slow

CANARY = "canary"
QUIET = resolve({"tracking": {"mlflow": False}})


def client_of(runs):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")


FOLDERS = {"pretrain": "z-pretrain", "finetune": "a-finetune"}


def runs_of(runs):
    """{name of the folder: run} of a store; a name in MLflow stands for one run only."""
    client = client_of(runs)
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len({run.info.run_name for run in found}) == len(found)
    return {FOLDERS[run.data.tags["kind"]] if "dataset" in run.data.tags else run.info.run_name: run for run in found}


def rows_of(database):
    """Every row of the tables that tracking fills."""
    with sqlite3.connect(database) as connection:
        return {table: sorted(connection.execute(f"select * from {table}")) for table in ("metrics", "params", "tags")}  # noqa: S608


@pytest.fixture(scope="module")
def runs(pictures, small, reporter, tmp_path_factory):
    """A pretraining and a fine-tuning that nobody tracked, sent twice: their folder, what was said each time, the rows after each time."""
    folder = tmp_path_factory.mktemp("runs")
    quiet = [*small, "tracking.mlflow=false", "tracking.models=true", "tracking.register_as=chest"]
    pretrain(reporter(), data=str(pictures), out=folder / "z-pretrain", sets=quiet)
    finetune(reporter(), labels="50pct", encoder=str(folder / "z-pretrain"), out=folder / "a-finetune", sets=quiet)
    assert not (folder / "mlflow.db").exists()
    said, rows = [], []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            patch.setenv(name, f"{CANARY}_login")
        for _ in range(2):
            lines = reporter()
            track(lines, runs=[folder])
            assert lines.warned == []
            said.append(lines.said)
            rows.append(rows_of(folder / "mlflow.db"))
    return folder, said, rows


def test_every_number_of_the_file_is_in_mlflow_at_its_step_and_time(runs):
    folder = runs[0]
    for name, run in runs_of(folder).items():
        expected, found = {}, {}
        for row in read(folder / name / "metrics.jsonl"):
            for key, value in row.items():
                if key not in ("step", "time") and isinstance(value, int | float):
                    expected[key, row["step"]] = (float(value), row["time"])
        for key in run.data.metrics:
            for metric in client_of(folder).get_metric_history(run.info.run_id, key):
                found[metric.key, metric.step] = (metric.value, metric.timestamp / 1000)
        assert len(found) > 10
        assert {place: value for place, value in found.items() if value[0] == value[0]} == expected


def test_parameters_tags_files_and_status_are_those_of_a_run_that_was_tracked(runs, pictures):
    folder = runs[0]
    found = runs_of(folder)
    below, above = found["a-finetune"], found["z-pretrain"]
    assert (above.info.status, below.info.status) == ("FINISHED", "FINISHED")
    assert above.info.run_name == f"pretrain pnnclr {pictures.stem}"
    assert below.data.tags["mlflow.parentRunId"] == above.info.run_id
    assert (above.data.params["method.width"], above.data.params["train.steps"]) == ("16", "12")
    client = client_of(folder)
    files = {name: {item.path for item in client.list_artifacts(run.info.run_id)} for name, run in found.items()}
    assert files["z-pretrain"] == {"views.png", "neighbours.png", "card.json", "encoder.safetensors", "report.html"}
    assert files["a-finetune"] == {"results.json", "splits.json", "report.html", "figures"}
    sent = folder / "mlartifacts" / above.info.run_id / "artifacts" / "encoder.safetensors"
    assert sent.read_bytes() == (folder / "z-pretrain" / "encoder.safetensors").read_bytes()


def test_encoder_and_classifier_are_models_of_their_runs_and_versions_in_the_registry(runs):
    folder = runs[0]
    client, found = client_of(folder), runs_of(folder)
    for name, run, card in (("encoder", "z-pretrain", "card.json"), ("classifier", "a-finetune", "classifier.json")):
        digest = json.loads((folder / run / card).read_text())["weights_sha256"]
        (model,) = client.search_logged_models([found[run].info.experiment_id], f"source_run_id = '{found[run].info.run_id}'")
        assert (model.name, model.status.value, model.tags["weights_sha256"]) == (name, "READY", digest)
        (version,) = client.search_model_versions(f"name = 'chest-{name}'")
        assert (version.tags["weights_sha256"], version.source) == (digest, model.artifact_location)


def test_the_run_is_where_it_was_in_time(runs):
    folder = runs[0]
    run = runs_of(folder)["z-pretrain"]
    started = json.loads((folder / "z-pretrain" / "environment.json").read_text())["started"]
    assert time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.info.start_time / 1000)) == started
    assert run.info.end_time == round(1000 * read(folder / "z-pretrain" / "metrics.jsonl")[-1]["time"])


def test_sent_twice_nothing_is_doubled(runs):
    _, said, rows = runs
    assert rows[0] == rows[1]
    assert len(rows[0]["metrics"]) > 100
    assert all("encoder.safetensors" in line or "results.json" in line for line in said[0])
    assert all(line.endswith("nothing was missing") for line in said[1])


def test_no_path_and_no_login_is_sent(runs, pictures):
    folder = runs[0]
    everything = repr(runs[2][0])
    for secret in (str(pictures), str(folder), CANARY, "mlflow.source.name"):
        assert secret not in everything
    for path in folder.glob("mlartifacts/**/*.*"):
        assert str(pictures).encode() not in path.read_bytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs" / "run").mkdir(parents=True)
    write_description(tmp_path / "runs" / "run", QUIET, "pretrain")
    return tmp_path / "runs" / "run"


def logged(folder, steps, **options):
    with Tracker(folder, QUIET, print, **options) as tracker:
        for step in steps:
            tracker.log({"step": step, "loss": step / 8})


def test_a_run_of_which_mlflow_has_a_part_gets_the_rest_once(folder, reporter):
    logged(folder, range(10))
    track(reporter(), runs=[folder])
    logged(folder, range(7, 2500), step=6)  # as after a resumption, with MLflow away; more than one call takes
    said = reporter()
    track(said, runs=[folder])
    assert "2490 numbers" in said.said[0]
    history = client_of(folder.parent).get_metric_history(runs_of(folder.parent)["run"].info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(step, step / 8) for step in range(2500)]


def test_a_run_can_be_sent_to_two_servers_and_is_known_again_on_each(folder, reporter, monkeypatch, tmp_path):
    logged(folder, range(3))
    for _ in range(2):
        for name in ("one", "two"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / name / 'mlflow.db'}")
            track(reporter(), runs=[folder])
    assert [len(rows_of(tmp_path / name / "mlflow.db")["metrics"]) for name in ("one", "two")] == [3, 3]
    assert [list(runs_of(tmp_path / name)) for name in ("one", "two")] == [["run"], ["run"]]


def test_a_run_that_was_killed_and_one_without_a_note_are_told_as_killed(folder, reporter):
    logged(folder, range(3))
    mlflow_json.change(folder, status="")
    track(reporter(), runs=[folder])
    assert runs_of(folder.parent)["run"].info.status == "KILLED"
    other = folder.with_name("older")
    other.mkdir()
    write_description(other, QUIET, "pretrain")
    (other / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n{"step": 3, "lo')
    for _ in range(2):
        track(reporter(), runs=[other])
    run = runs_of(folder.parent)["older"]
    assert (run.info.status, run.data.tags["kind"], run.data.tags["method"]) == ("KILLED", "pretrain", "pnnclr")
    assert [metric.step for metric in client_of(folder.parent).get_metric_history(run.info.run_id, "loss")] == [1, 2]


def test_a_run_that_goes_on_is_left_alone_and_told_once_the_others_are_sent(folder, reporter):
    logged(folder, range(3))
    other = folder.with_name("another")
    other.mkdir()
    write_description(other, QUIET, "pretrain")
    logged(other, range(3))
    with lock_run_dir(other), pytest.raises(UserError, match=r"another is in use by process \d+"):
        track(reporter(), runs=[folder.parent])
    assert list(runs_of(folder.parent)) == ["run"]


def ended(capsys, *folders):
    """The exit code of the command, and what it said on the standard error."""
    with pytest.raises(SystemExit) as end:
        cli.app(["track", *map(str, folders)])
    return end.value.code, capsys.readouterr().err


def test_a_folder_without_a_run_ends_with_2_before_anything_is_sent(folder, capsys, tmp_path):
    logged(folder, range(3))
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "missing", folder / "config.yaml"):
        code, error = ended(capsys, folder, wrong)
        assert code == 2
        assert f"{wrong} is no run folder" in error
    assert not (folder.parent / "mlflow.db").exists()


def test_damage_in_the_file_is_told_with_its_place(folder, capsys):
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    code, error = ended(capsys, folder)
    assert code == 2
    assert "metrics.jsonl, the line at byte 12, is not JSON" in error


@pytest.mark.fault("R16")
@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "accepts and never answers"])
def test_a_server_that_is_down_ends_with_2_and_its_address_within_seconds(folder, capsys, monkeypatch, answers):
    logged(folder, range(3))
    with socket.create_server(("127.0.0.1", 0)) as port:
        address = f"127.0.0.1:{port.getsockname()[1]}"
        if not answers:
            port.close()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@{address}")
        began = time.monotonic()
        code, error = ended(capsys, folder)
    assert time.monotonic() - began < 15
    assert code == 2
    assert f"MLflow at http://{address} did not accept the records of {folder}" in error
    assert not {"secret", "somebody"} & set(error.replace("@", " ").replace(":", " ").replace("/", " ").split())
