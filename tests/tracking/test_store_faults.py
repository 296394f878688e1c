"""MLflow's sqlite store where it goes wrong: made by several processes at once, killed while it is made, its disk full or read-only."""

import subprocess
import sys
import time

import pytest
from notes import noted

from medssl.config import resolve
from medssl.tracking import forwarder
from medssl.tracking.jsonl import read
from medssl.tracking.tracker import Tracker

pytestmark = pytest.mark.slow
# Imports mlflow once, then forks the processes of each round, which make a store and send a run of ten rows. A round "kill" is a process
# that is killed while it makes the store, and another one after it.
DRIVER = """
import os, signal, sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from medssl.tracking.forwarder import Forwarder
from medssl.tracking.jsonl import JsonLines
from medssl.tracking.mlflow_client import Run, Session

def started(runs, number):
    child = os.fork()
    if child == 0:
        folder = runs / f"run{number}"
        folder.mkdir()
        forwarder = Forwarder(Session(Run(folder.name, folder.name, "medssl"), folder), folder, lambda text: print(text, flush=True))
        rows = JsonLines(folder / "metrics.jsonl")
        for step in range(10):
            rows.write({"step": step, "loss": 1.0})
            forwarder.announce_row()
        forwarder.finish("FINISHED")
        os._exit(0)
    return child

for name in sys.argv[2:]:
    runs = Path(sys.argv[1], name)
    runs.mkdir()
    if name == "kill":
        child = started(runs, 0)
        while not any(file.stat().st_size > 500_000 for file in runs.glob(".mlflow.db.*.part")):  # about half of it
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for child in [started(runs, number) for number in range(1, 2 if name == "kill" else 1 + int(name))]:
        assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, repository):
    """The folder of the rounds, and what the processes said."""
    folder = tmp_path_factory.mktemp("made")
    command = [sys.executable, "-c", DRIVER, str(folder), "2", "3", "kill"]
    process = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=200, check=False)
    assert process.returncode == 0, process.stderr
    return folder, process.stdout + process.stderr


def histories(runs):
    """{the run's folder: the steps of its loss} of a store."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert {run.info.status for run in found} == {"FINISHED"}
    return {run.info.run_name: [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] for run in found}


@pytest.mark.slow
@pytest.mark.fault("R15")
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_that_make_one_store_at_the_same_time_all_succeed(made, processes):
    folder, said = made
    assert said.strip() == ""
    assert histories(folder / str(processes)) == {f"run{number}": list(range(10)) for number in range(1, 1 + processes)}


@pytest.mark.slow
@pytest.mark.fault("R15")
def test_a_store_whose_maker_was_killed_is_made_by_the_next(made):
    folder, said = made
    assert said.strip() == ""
    assert histories(folder / "kill") == {"run1": list(range(10))}


@pytest.fixture
def disk(tmp_path):
    """A disk of 16 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, check=False)  # noqa: S607
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def fill(disk):
    """Writes a file until the disk is full."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (2**20, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def set_rights(disk, rights):
    subprocess.run(["mount", "-o", f"remount,{rights}", str(disk)], check=True)  # noqa: S607


class Run:
    """A training that logs, and how long its slowest call took."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.folder, self.warnings, self.steps, self.slowest = folder, [], 0, 0.0
        self.tracker = Tracker(folder, resolve({}), self.warnings.append)

    def until(self, condition):
        """Logs a row every few milliseconds until the condition holds."""
        limit = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < limit, self.warnings
            began = time.monotonic()
            self.tracker.log({"step": self.steps, "loss": 0.5})
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.steps += 1
            time.sleep(0.005)

    def finish(self):
        """Nothing was lost on the way, neither in the file nor in MLflow."""
        self.tracker.finish()
        assert self.slowest < 1
        assert [row["step"] for row in read(self.folder / "metrics.jsonl")] == list(range(self.steps))


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(forwarder, "RETRY_SECONDS", 0.05)


@pytest.mark.fault("R17")
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_store_that_cannot_be_made_costs_one_warning_and_is_made_when_it_can(disk, tmp_path, monkeypatch, patient, fault):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{disk / 'mlflow.db'}")
    fill(disk) if fault == "full" else set_rights(disk, "ro")
    run = Run(tmp_path / "runs" / "run")
    run.until(lambda: run.warnings and run.steps > 50)
    (disk / "filler").unlink() if fault == "full" else set_rights(disk, "rw")
    run.until(lambda: noted(run.folder).run_id)
    run.finish()
    assert len(run.warnings) == 1
    assert ("full" if fault == "full" else "Read-only") in run.warnings[0].replace("No space left on device", "full")
    assert histories(disk) == {"run": list(range(run.steps))}


@pytest.mark.fault("R17")
def test_a_disk_that_is_full_for_a_while_costs_no_row_of_the_run_on_it_and_no_number_of_its_store(disk, patient):
    run = Run(disk / "runs" / "run")

    def warned_of_file():
        return [text.startswith("Cannot write") for text in run.warnings]

    def rows():
        return len(read(run.folder / "metrics.jsonl"))

    run.until(lambda: noted(run.folder).run_id)
    fill(disk)
    before = run.steps
    # A store that gives a transaction up frees some pages, so the disk may have room again for a few rows.
    run.until(lambda: set(warned_of_file()) == {False, True} and run.steps > before + 50 and rows() < run.steps)
    (disk / "filler").unlink()
    run.until(lambda: rows() == run.steps)
    run.finish()
    assert warned_of_file().count(False) == 1
    assert histories(disk / "runs") == {"run": list(range(run.steps))}
