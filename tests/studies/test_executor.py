"""Jobs side by side in processes of their own, and a whole study: killed, stopped by Ctrl-C, finished as if nothing had happened."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from medssl import cli
from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.commands.study import study as run_study
from medssl.errors import UserError
from medssl.studies.executor import n_jobs, run_jobs
from medssl.studies.plan import Job, plan_jobs, read_study

pytestmark = pytest.mark.timeout(900)  # seven processes that import torch, on a busy machine
LABELS = "20pct,100pct"


def prepare(place, name, data, after=()):
    return Job(f"x/{name}", "prepare", place / "x" / name, {"data": str(data), "preset": "medmnist_cpu", "sets": ["data.size=16"]}, after)


@pytest.mark.slow
def test_a_job_that_fails_costs_itself_and_what_needs_it_only(pictures, reporter, tmp_path):
    said = reporter()
    jobs = [
        prepare(tmp_path, "last", pictures, ("x/good",)),
        prepare(tmp_path, "bad", tmp_path / "nowhere"),
        prepare(tmp_path, "needs-bad", pictures, ("x/bad",)),
        prepare(tmp_path, "good", pictures),
    ]
    bad, needs = run_jobs(jobs, 2, said)
    assert (bad.job.name, needs.job.name, needs.lines) == ("x/bad", "x/needs-bad", ())
    assert "nowhere" in bad.lines[-2] and bad.lines[-1] == "(exit code 2)"
    events = [line.split()[:2] for line in said.said]
    assert events.index(["done", "x/good"]) < events.index(["started", "x/last"]) < events.index(["done", "x/last"])
    assert ["started", "x/needs-bad"] not in events
    assert "60 images" in (tmp_path / "x" / "good.log").read_text()


def test_half_the_cores_are_jobs_one_on_a_gpu_and_never_none(monkeypatch):
    monkeypatch.setattr("medssl.studies.executor.cores", lambda: 9)
    assert (n_jobs(None, "cpu"), n_jobs(None, "cuda"), n_jobs(3, "cuda")) == (4, 1, 3)
    monkeypatch.setattr("medssl.studies.executor.cores", lambda: 1)
    assert n_jobs(None, "cpu") == 1
    with pytest.raises(UserError, match="--jobs 0"):
        n_jobs(0, "cpu")


@pytest.fixture(scope="module")
def study(pictures, small, tmp_path_factory):
    """A YAML file with one encoder to pretrain in twenty steps."""
    root = tmp_path_factory.mktemp("study")
    sets = [*small, "train.steps=20", "tracking.mlflow=false", "train.workers=0"]
    sets = [item for item in sets if not item.startswith("finetune.draws")]
    values = {"out": str(root / "out"), "data": {"pictures": str(pictures)}, "encoders": {"fresh": None}, "labels": LABELS}
    (root / "study.yaml").write_text(yaml.safe_dump({**values, "draws": 2, "set": sets}))
    return root


def command(study, repository, *more):
    line = [sys.executable, "-m", "medssl", "study", str(study / "study.yaml"), *more]
    return subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": str(repository)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, process, seconds=600):
    """Kills the process where it does not come to that."""
    ends = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > ends:
            process.kill()
            raise AssertionError(process.communicate()[0])
        time.sleep(0.01)


def workers(study):
    """The processes that do a job of this study."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(study).encode() in (line := place.read_bytes()) and b"\0job\0" in line:
                found.append(int(place.parent.name))
    return found


def state(folder):
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def killed(study, repository):
    """The study killed while it fine-tunes: who was left after a while, and the state of the pretraining's folder."""
    process = command(study, repository)
    wait_for((study / "out/pictures/linear-fresh/config.yaml").is_file, process)
    process.kill()
    process.communicate()
    ends = time.monotonic() + 30
    while workers(study) and time.monotonic() < ends:
        time.sleep(0.1)
    return workers(study), state(study / "out/pictures/pretrain-fresh")


@pytest.fixture(scope="module")
def stopped(killed, study):
    """The study going on, and Ctrl-C as soon as it works: its exit code, who was at work before and after."""
    busy: list[int] = []

    def press():
        while not busy:
            busy.extend(workers(study))
            time.sleep(0.05)
        time.sleep(1)  # one that was started in this moment ends only with the whole program, which here is the tests'
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(SystemExit) as end:
        cli.app(["study", str(study / "study.yaml")])
    return end.value.code, busy, workers(study)


@pytest.fixture(scope="module")
def ended(stopped, study, reporter):
    """The study brought to its end: what was said."""
    said = reporter()
    assert run_study(said, file=study / "study.yaml", jobs=1) == []
    return said.said


@pytest.mark.slow
def test_a_killed_study_takes_its_children_with_it(killed, study):
    assert killed[0] == []


@pytest.mark.slow
def test_ctrl_c_ends_the_children_and_the_command_with_130(stopped):
    code, busy, alive = stopped
    assert (code, len(busy), alive) == (130, 1, [])


@pytest.mark.slow
def test_what_was_finished_before_the_kill_is_left_as_it_was(ended, killed, study):
    assert [line.split()[:2] for line in ended[:2]] == [["started", "pictures/linear-fresh"], ["done", "pictures/linear-fresh"]]
    assert state(study / "out" / "pictures" / "pretrain-fresh") == killed[1]


@pytest.mark.slow
def test_the_study_ends_as_one_that_nobody_disturbed(ended, study, reporter, tmp_path):
    jobs = {job.command: job.arguments for job in plan_jobs(read_study(study / "study.yaml"))}
    sets = {name: list(given["sets"]) for name, given in jobs.items()}
    pretrain(reporter(), data=jobs["pretrain"]["data"], seed=0, out=tmp_path / "pretrain-fresh", sets=sets["pretrain"])
    given = {"labels": LABELS, "mode": "linear", "seed": 0, "data": jobs["finetune"]["data"], "sets": sets["finetune"]}
    alone = finetune(reporter(), encoder=str(tmp_path / "pretrain-fresh"), out=tmp_path / "linear-fresh", **given)
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (study / "out/pictures/linear-fresh", alone))
    assert ours["encoder"]["weights_sha256"] == theirs["encoder"]["weights_sha256"], "the same bits"
    assert ours["cells"] == theirs["cells"] and ours["summary"] == theirs["summary"]
    tables = [pd.read_parquet(folder / "predictions.parquet") for folder in (study / "out/pictures/linear-fresh", alone)]
    assert all(np.array_equal(tables[0][name], tables[1][name]) for name in tables[1])


@pytest.mark.slow
def test_a_plan_counts_the_cells_that_a_study_then_has(ended, study):
    (tuning,) = (job for job in plan_jobs(read_study(study / "study.yaml")) if job.command == "finetune")
    results = json.loads((tuning.folder / "results.json").read_text())
    assert tuning.cells == len(results["cells"])


@pytest.mark.slow
def test_a_finished_study_starts_nothing_and_writes_its_page_again(ended, study, reporter):
    before, said = state(study / "out/pictures/linear-fresh"), reporter()
    page = (study / "out" / "comparison.html").read_bytes()
    assert run_study(said, file=study / "study.yaml") == []
    assert said.said[0].startswith("report ") and not any(line.startswith("started") for line in said.said)
    assert state(study / "out/pictures/linear-fresh") == before and (study / "out" / "comparison.html").read_bytes() == page


@pytest.mark.slow
def test_mlflow_runs_the_project_without_git_and_without_asking_anything(ended, study, repository, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "bash").symlink_to("/bin/bash")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{tools}",
        "PYTHONPATH": str(repository),
        "GIT_PYTHON_REFRESH": "quiet",
    }
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    before = (study / "out" / "comparison.html").stat().st_mtime_ns
    line = [sys.executable, "-m", "mlflow", "run", str(repository), "--env-manager", "local", "-e", "study"]
    line += ["-P", f"file={study / 'study.yaml'}"]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert (study / "out" / "comparison.html").stat().st_mtime_ns > before
