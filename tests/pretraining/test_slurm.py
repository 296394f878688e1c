"""The job template on a real SLURM, that of docker/slurm/cluster.sh: preempted, out of time, one process killed, on two nodes."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medssl.commands.pretrain import pretrain

ROOT = Path(__file__).resolve().parents[2]
QUIET = ["tracking.mlflow=false", "train.workers=0"]
STEPS = 60
GRACE_SECONDS, KILL_WAIT_SECONDS = 20, 10  # as in cluster.sh
SLOW_DISK = """
import os, time
sync = os.fsync
def fsync(handle):
    time.sleep({seconds} if os.stat(handle).st_size > 100_000 else 0)  # of what a run writes, checkpoints are as large
    sync(handle)
os.fsync = fsync
"""


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def missing() -> str:
    """Why there is nothing to test on, or "". No other SLURM than the one for tests is spoken to."""
    if shutil.which("srun") is None or "SLURM_CONF" not in os.environ:
        return "needs a SLURM of its own: docker/slurm/cluster.sh install, start"
    asked = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S607
    return "" if re.search(r"^ClusterName\s+= medssl$", asked.stdout, re.MULTILINE) else "the SLURM of docker/slurm/cluster.sh is not up"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why := missing()), reason=why)]


def until(happened: Callable[[], object], seconds: float) -> float:
    """Seconds until it happened."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began


class Job:
    """The template, submitted to the partition low: small, on a disk that is slow with what is large, with a loader worker a process."""

    def __init__(self, pictures: Path, folder: Path, sets: list[str], seconds: int) -> None:
        self.run, self._log = folder / "run", folder / "log"
        (folder / "sitecustomize.py").write_text(SLOW_DISK.format(seconds=seconds))
        place = {"DATA": str(pictures), "RUN": str(self.run), "PYTHON": sys.executable, "PYTHONPATH": str(folder)}
        settings = [part for item in [*sets, "tracking.mlflow=false", "train.workers=1"] for part in ("--set", item)]
        line = ["sbatch", "--parsable", f"--output={self._log}", str(ROOT / "docker/slurm/pretrain.sbatch"), *settings]
        self.number = subprocess.run(line, capture_output=True, text=True, env=os.environ | place, timeout=60, check=True).stdout.strip()

    def is_(self, *states: str) -> bool:
        return self.fact("JobState") in states

    def fact(self, name: str) -> str:
        found = re.search(rf"\b{name}=(\S+)", said_by("scontrol", "show", "job", self.number))
        return found[1] if found else ""

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def rows(self) -> list[dict[str, float]]:
        file = self.run / "metrics.jsonl"
        whole = file.read_text().rpartition("\n")[0] if file.exists() else ""  # a line may just be on its way
        return [json.loads(line) for line in whole.splitlines()]

    def trained(self, steps: int) -> None:
        until(lambda: len(self.rows()) >= steps or self.is_("FAILED", "COMPLETED"), 120)
        assert not self.is_("FAILED", "COMPLETED"), self.log

    def process(self, rank: int) -> int:
        """Its number, of the task of this rank."""
        lines = said_by("scontrol", "listpids", f"{self.number}.0").splitlines()[1:]
        return next(int(line.split()[0]) for line in lines if line.split()[4] == str(rank))


@pytest.fixture
def submit(pictures, small, tmp_path) -> Iterator[Callable[..., Job]]:
    """submit("train.steps=9", seconds=2): a job whose checkpoints take so long, ended with the test."""
    jobs: list[Job] = []

    def submitted(*sets: str, seconds: int = 2) -> Job:
        jobs.append(Job(pictures, tmp_path, [*small, f"train.steps={STEPS}", "train.save_every_steps=5000", *sets], seconds))
        return jobs[-1]

    yield submitted
    for job in jobs:
        subprocess.run(["scancel", "--quiet", job.number], timeout=60, check=False)  # noqa: S607
        until(lambda job=job: not job.is_("RUNNING", "COMPLETING", "PENDING"), 60)
    said_by("scontrol", "update", "PartitionName=low", f"GraceTime={GRACE_SECONDS}")


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def srun(pictures: Path, out: Path, sets: list[str], *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = [part for item in [*QUIET, *sets] for part in ("--set", item)]
    command = [sys.executable, "-m", "medssl", "pretrain", "--data", str(pictures), "--out", str(out), *settings]
    line = ["srun", "--kill-on-bad-exit=1", *options, *command]
    return subprocess.run(line, capture_output=True, text=True, env=os.environ | environment, timeout=200, check=False)


@pytest.fixture(scope="module")
def two_tasks(pictures, small, tmp_path_factory) -> Path:
    """The folder of a run of two tasks that nobody disturbs, and nothing beside it but what was said."""
    folder = tmp_path_factory.mktemp("two")
    done = srun(pictures, folder / "run", [*small, f"train.steps={STEPS}"], "--ntasks=2")
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    return folder / "run"


def test_two_tasks_of_srun_give_the_losses_of_one_process_and_write_one_run(two_tasks, pictures, small, reporter, tmp_path):
    pretrain(reporter(), data=str(pictures), out=tmp_path / "run", sets=[*small, *QUIET, f"train.steps={STEPS}"])
    # float32 sums a batch in another order, and some steps later a nearest neighbour is another one for it
    assert losses(two_tasks)[:6] == pytest.approx(losses(tmp_path / "run")[:6], abs=1e-4)
    assert "processes 2, each with 4 of the 8 of a batch" in (two_tasks.parent / "said").read_text()
    assert {file.name for file in two_tasks.parent.iterdir()} == {"run", "said"}


def test_tasks_on_two_nodes_give_the_same_losses_to_the_last_bit(two_tasks, pictures, small, tmp_path):
    options = ["--partition=both", "--nodes=2", "--ntasks=2"]
    done = srun(pictures, tmp_path / "run", [*small, f"train.steps={STEPS}"], *options, MASTER_ADDR="127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == losses(two_tasks)


def test_nodes_whose_name_nobody_knows_are_told_at_once(pictures, small, tmp_path):
    """torch would look for the name for more than ten minutes, without a word."""
    began = time.monotonic()
    done = srun(pictures, tmp_path / "run", [*small, "train.steps=2"], "--partition=both", "--nodes=2", "--ntasks=2")
    assert "medssl1 is no name that this machine knows" in done.stderr, done.stderr
    assert done.returncode != 0
    assert time.monotonic() - began < 60


@pytest.mark.fault("R3", "R20")
@pytest.mark.parametrize(("grace", "seconds"), [(GRACE_SECONDS, KILL_WAIT_SECONDS + 2), (0, 3)])
def test_a_preempted_job_saves_in_its_grace_time_and_goes_on_where_it_was(grace, seconds, submit, two_tasks):
    """With grace, no process may end before the checkpoint is written: srun would end the one that writes, KillWait later. Without,
    SLURM sends SIGTERM twice within 10 ms, and KillWait is all the time there is."""
    said_by("scontrol", "update", "PartitionName=low", f"GraceTime={grace}")
    job = submit(seconds=seconds)
    job.trained(6)
    began = time.monotonic()
    said_by("srun", "--partition=high", "--ntasks=2", "true")
    assert time.monotonic() - began < grace + KILL_WAIT_SECONDS + 5
    assert (job.run / "last.ckpt").exists(), job.log
    assert job.fact("Restarts") == "1", job.log
    until(lambda: job.is_("COMPLETED", "FAILED"), 120)
    assert job.is_("COMPLETED"), job.log
    assert f"start 1 of job {job.number} on medssl1: medssl pretrain --resume {job.run}" in job.log
    assert [row["step"] for row in job.rows()] == list(range(1, STEPS + 1))
    assert losses(job.run) == losses(two_tasks)


@pytest.mark.fault("R3")
def test_the_signal_before_the_end_of_the_time_puts_the_job_back_and_a_cancelled_job_stays_away(submit):
    job = submit("train.steps=4000")
    job.trained(3)
    said_by("scancel", "--signal=USR1", job.number)  # what --signal=USR1@120 sends
    until(lambda: "exit 138" in job.log, 30)
    until(lambda: f"--resume {job.run}" in job.log.partition("exit 138")[2], 60)
    at = len(job.rows())
    job.trained(at + 2)
    said_by("scancel", job.number)
    until(lambda: job.is_("CANCELLED"), 30)
    time.sleep(2)
    assert job.is_("CANCELLED"), "it came back"
    assert job.fact("Restarts") == "1"


@pytest.mark.fault("R20")
def test_a_task_that_is_killed_ends_the_job_and_is_named_and_a_run_without_a_checkpoint_starts_over(submit):
    job = submit()
    job.trained(3)
    os.kill(job.process(rank=1), 9)
    assert until(lambda: job.is_("FAILED"), 60) < 60
    assert re.search(r"srun: error: medssl1: task 1: Killed", job.log), job.log
    assert not (job.run / "last.ckpt").exists()
    said_by("scontrol", "requeue", job.number)
    until(lambda: job.is_("COMPLETED", "FAILED") and job.fact("Restarts") == "1", 120)
    assert job.is_("COMPLETED"), job.log
    assert f"--out {job.run} --overwrite" in job.log.partition("start 1 of job")[2]
    assert [row["step"] for row in job.rows()] == list(range(1, STEPS + 1))
