"""The tracker and MLflow's embedded sqlite store, which lies beside the run folders."""

import os
import sys
import time

import pytest
from notes import noted

from medssl.config import resolve
from medssl.tracking.tracker import Tracker

CANARY = "canary"


def track(folder, rows, config=None, files=(), **options):
    """A whole run; returns MLflow's id of it and the warnings."""
    warnings = []
    folder.mkdir(exist_ok=True)
    with Tracker(folder, config or resolve({}), warnings.append, **options) as tracker:
        for row in rows:
            tracker.log(row)
        for file in files:
            tracker.log_artifact(file)
    tracker._mlflow._thread.join()  # pyright: ignore[reportOptionalMemberAccess]
    return noted(folder).run_id, warnings


def client_of(runs):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A pretraining run that was resumed once, and a fine-tuning run under it, in one embedded store: (folder, parent id, child id)."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "views.png").write_bytes(b"pixels")
    settings = {"data": {"path": f"/{CANARY}_data/cohort"}, "seed": 7}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            patch.setenv(name, f"{CANARY}_login")
        patch.setattr(sys, "argv", [f"/{CANARY}_script.py"])
        rows = [{"step": step, "epoch": 1, "loss": 1 / (step + 1), "gain": float("inf"), "note": "text"} for step in range(1200)]
        tags = {"kind": "pretrain"}
        parent, warnings = track(runs / "pretrain-1", rows, resolve(settings), [runs / "views.png"], tags=tags)
        assert warnings == []
        rows = [{"step": step, "loss": 5.0, "acc@1<b>": 0.5} for step in (1199, 1200)]  # step 1199 again, as after a kill
        assert track(runs / "pretrain-1", rows, resolve({**settings, "seed": 8}), tags=tags, step=1198) == (parent, [])
        child, warnings = track(runs / "finetune-1", [{"step": 0, "auroc": 0.9}], parent=runs / "pretrain-1")
        assert warnings == []
    return runs, parent, child


def test_every_number_arrives_once_at_its_step(embedded):
    runs, parent, _ = embedded
    history = client_of(runs).get_metric_history(parent, "loss")
    assert [(metric.step, metric.value) for metric in history] == [*((step, 1 / (step + 1)) for step in range(1200)), (1200, 5.0)]


def test_what_json_has_no_number_for_is_not_a_number_and_text_is_no_metric(embedded):
    runs, parent, _ = embedded
    metrics = client_of(runs).get_run(parent).data.metrics
    assert set(metrics) == {"epoch", "loss", "gain", "acc_1_b_"}
    assert metrics["gain"] != metrics["gain"]


def test_the_run_is_finished_and_has_its_file_beside_the_store(embedded):
    runs, parent, _ = embedded
    run = client_of(runs).get_run(parent)
    assert (run.info.status, run.info.run_name, run.data.tags["kind"]) == ("FINISHED", "pretrain-1", "pretrain")
    assert (runs / "mlartifacts" / parent / "artifacts" / "views.png").read_bytes() == b"pixels"


def test_a_resumed_run_keeps_its_parameters(embedded):
    runs, parent, _ = embedded
    assert client_of(runs).get_run(parent).data.params["seed"] == "7"


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
    _, warnings = track(tmp_path / "a", [{"step": 0, "loss": 1.0}])
    assert (warnings, *capfd.readouterr()) == ([], "", "")


def test_a_run_that_was_deleted_in_mlflow_is_begun_anew(embedded):
    runs = embedded[0]
    rows = [{"step": step, "loss": 1.0} for step in range(3)]
    old, _ = track(runs / "b", rows[:2])
    client_of(runs).delete_run(old)
    new, warnings = track(runs / "b", rows[2:], step=9)
    assert new != old
    assert warnings == []
    assert [metric.step for metric in client_of(runs).get_metric_history(new, "loss")] == [0, 1, 2]


def test_a_run_that_is_deleted_while_it_goes_on_is_told_once(embedded):
    runs = embedded[0]
    warnings = []
    (runs / "c").mkdir()
    with Tracker(runs / "c", resolve({}), warnings.append) as tracker:
        while not noted(runs / "c").run_id:
            os.sched_yield()
        client_of(runs).delete_run(noted(runs / "c").run_id)
        for step in range(20):
            tracker.log({"step": step, "loss": 1.0} if step % 2 else {"step": step})
            time.sleep(0.01)
    assert len(warnings) == 1
    assert "deleted" in warnings[0] or "active" in warnings[0]
