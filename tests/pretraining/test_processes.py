"""The same command under torchrun: several processes train as one, end together, and one alone writes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import in_float64
import pytest
import torch
from surroundings import end_with_parent
from whole_volumes import PHANTOM, SMALL

from medssl.commands.pretrain import pretrain
from medssl.errors import UserError
from medssl.train import checkpoint
from medssl.train.processes import join_team

QUIET = ["tracking.mlflow=false", "train.workers=0"]
PATCHES = ["data.source={name: phantom_volumes, patients: 40, size: 24}", "data.volumes=patches", "data.spacing_mm=2"]
SECONDS = 60


def started(
    log: Path, *arguments: str, sets: list[str], processes: int = 2, program: tuple[str, ...] = ("-m", "medssl")
) -> subprocess.Popen[bytes]:
    """The command in so many processes, what they say in a file."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone", *program, "pretrain"]
    line += [*arguments, *(part for item in [*QUIET, *sets] for part in ("--set", item))]
    with log.open("wb") as said:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            line,
            stdout=said,
            stderr=said,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


def ended(process: subprocess.Popen[bytes], seconds: float) -> float:
    """Seconds until it ended; nothing of it is left in any case."""
    began = time.monotonic()
    try:
        process.wait(timeout=seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return time.monotonic() - began


def trained(process: subprocess.Popen[bytes], folder: Path, steps: int) -> None:
    """Waits until metrics.jsonl tells of so many steps."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").read_text().count("\n") >= steps:
            return
        time.sleep(0.05)
    raise AssertionError("it ended, or hung, before it trained")


def members(process: subprocess.Popen[bytes]) -> list[int]:
    """The training processes that torchrun has started, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    of_rank = {}
    for child in map(int, children):
        if found := re.search(rb"\0RANK=(\d+)", b"\0" + Path(f"/proc/{child}/environ").read_bytes()):
            of_rank[int(found[1])] = child
    return [of_rank[rank] for rank in sorted(of_rank)]


def trained_alike(folder: Path, *arguments: str, sets: list[str]) -> str:
    """Trains in one process and in two, in float64, to the same losses; returns what the two said."""
    runs = {}
    for name, processes in (("one", 1), ("two", 2)):
        given, log = [*arguments, "--out", str(folder / name)], folder / f"{name}.log"
        runs[log] = started(log, *given, sets=[*sets, "train.precision=fp32"], processes=processes, program=(in_float64.__file__,))
    for log, process in runs.items():
        ended(process, 120)
        assert process.returncode == 0, log.read_text()
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), abs=1e-9)
    return (folder / "two.log").read_text()


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_and_write_one_run(pictures, small, tmp_path):
    said = trained_alike(tmp_path, "--data", str(pictures), sets=[*small, "train.steps=6"])
    assert {file.name for file in (tmp_path / "two").iterdir()} == {file.name for file in (tmp_path / "one").iterdir()}
    assert "processes 2, each with 4 of the 8 of a batch" in said
    assert said.count("training  6 steps") == 1


@pytest.mark.slow
@pytest.mark.parametrize("volumes", [[], PATCHES], ids=["whole", "patches"])
def test_two_processes_train_on_volumes_as_one(volumes, tmp_path):
    said = trained_alike(tmp_path, *PHANTOM, sets=[*SMALL, *volumes, "train.steps=6"])
    assert ("40 volumes in patches of 1x16x16x16" in said) == bool(volumes)


@pytest.mark.slow
@pytest.mark.fault("R20", "R21")
def test_when_one_process_is_killed_all_end_and_one_alone_goes_on_from_the_checkpoint(pictures, small, reporter, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    process = started(log, "--data", str(pictures), "--out", str(folder), sets=[*small, "train.steps=150"])
    trained(process, folder, 6)
    os.kill(members(process)[1], signal.SIGKILL)
    assert ended(process, SECONDS) < SECONDS
    said = log.read_text()
    assert "Root Cause (first observed failure)" in said
    assert re.search(r"rank\s+: 1 \(local_rank: 1\)\s+exitcode\s+: -9", said), said
    assert "Another process of this training has ended" in said or "SIGTERM" in said
    assert 2 <= checkpoint.load(folder)[0]["step"] < 150
    pretrain(reporter(), resume=folder)
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == list(range(1, 151))
    assert (folder / "encoder.safetensors").exists()


@pytest.mark.slow
@pytest.mark.fault("R3", "R20")
def test_a_wish_to_stop_that_reaches_one_process_ends_all_of_them_after_the_same_step(pictures, small, reporter, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    process = started(log, "--data", str(pictures), "--out", str(folder), sets=[*small, "train.steps=4000", "train.save_every_steps=5000"])
    trained(process, folder, 3)
    os.kill(members(process)[1], signal.SIGTERM)
    assert ended(process, SECONDS) < 30
    said = log.read_text()
    assert said.count("exitcode  : 143") == 2, said
    state, _ = checkpoint.load(folder)
    assert f"Stopped at step {state['step']} of 4000" in said


@pytest.mark.slow
@pytest.mark.fault("R20")
def test_a_batch_that_the_processes_cannot_share_evenly_is_refused(pictures, small, tmp_path):
    log = tmp_path / "log"
    process = started(log, "--data", str(pictures), "--out", str(tmp_path / "run"), sets=[*small, "train.batch_size=7"])
    ended(process, SECONDS)
    said = log.read_text()
    assert process.returncode != 0
    assert "A batch of 7 cannot be shared evenly by 2 processes. Use --set train.batch_size=8." in said
    assert "exitcode  : 2" in said


def test_a_machine_to_meet_at_that_nobody_knows_is_told_at_once(monkeypatch):
    """torch would look for the name for more than ten minutes, without a word."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "node7.invalid", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"node7\.invalid is no name that this machine knows"), join_team(torch.device("cpu")):
        raise AssertionError("they met")
