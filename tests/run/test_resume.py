"""Killed at any step and resumed, a run ends with the same bits as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medssl.errors import Interrupted, UserError
from medssl.run import pretrain as pretraining
from medssl.run.pretrain import pretrain
from medssl.train import checkpoint

QUIET = ["--set", "tracking.mlflow=false"]
CODE_KILLED, CODE_INTERRUPTED = -signal.SIGKILL, 3


def command(*arguments: str, sets: list[str]) -> list[str]:
    return [sys.executable, "-m", "medssl", "pretrain", *arguments, *QUIET, *(part for item in sets for part in ("--set", item))]


def killed_at(step: int, folder: Path, arguments: list[str], number: signal.Signals = signal.SIGKILL) -> int:
    """Start the command, send the signal once metrics.jsonl tells of the step, and return the exit code."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") >= step:
            process.send_signal(number)
            break
        time.sleep(0.002)
    return process.wait(timeout=60)


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder)[0]["method"]


@pytest.fixture(scope="module")
def uninterrupted(pictures, small, reporter, tmp_path_factory):
    """The final state of a run of 40 steps that nobody disturbed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("calm") / "run"
    pretrain(reporter(), data=str(pictures), out=folder, sets=[*small, "train.steps=40", "tracking.mlflow=false"])
    torch.set_num_threads(threads)
    return final_state(folder)


def test_killed_at_three_random_steps_and_resumed_with_other_workers_the_weights_are_the_same_bits(
    uninterrupted, pictures, small, tmp_path
):
    folder = tmp_path / "run"
    steps = sorted(random.SystemRandom().sample(range(3, 38), 3))
    arguments = command("--data", str(pictures), "--out", str(folder), sets=[*small, "train.steps=40"])
    codes = []
    for workers, step in zip((1, 2, 0), steps, strict=True):
        codes.append(killed_at(step, folder, arguments))
        arguments = command("--resume", str(folder), sets=[f"train.workers={workers}"])
    last = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120, check=False)
    assert last.returncode == 0, last.stderr
    assert codes.count(CODE_KILLED) >= 2, f"killed at {steps}: {codes}"
    ours = final_state(folder)
    assert ours.keys() == uninterrupted.keys()
    different = [name for name in ours if not torch.equal(ours[name], uninterrupted[name])]
    assert not different, f"killed at {steps}: {different}"
    rows = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, 41)), "each step is told once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wish_to_stop_saves_the_state_and_says_how_to_go_on(number, pictures, small, tmp_path):
    folder = tmp_path / "run"
    arguments = command("--data", str(pictures), "--out", str(folder), sets=[*small, "train.steps=4000", "train.save_every_steps=5000"])
    assert killed_at(5, folder, arguments, number) == CODE_INTERRUPTED
    assert checkpoint.load(folder)[0]["step"] >= 5


@pytest.mark.parametrize(
    "lost",
    ["support.rows", "support.pushed", "target_encoder.backbone.conv1.weight", "encoder.backbone.bn1.running_mean", "optimiser", "step"],
)
def test_no_part_of_the_checkpoint_can_be_left_out(lost, uninterrupted, pictures, small, reporter, tmp_path, monkeypatch):
    """Resumes a run after 20 of 40 steps with one part of its state set back to the start: the bits must then differ."""
    torch.set_num_threads(1)
    folder = tmp_path / "run"
    whole = checkpoint.save

    def stop_at_20(folder_, state):
        whole(folder_, state)
        if state["step"] == 20:
            raise Interrupted("half way")

    monkeypatch.setattr(checkpoint, "save", stop_at_20)
    with pytest.raises(Interrupted):
        pretrain(reporter(), data=str(pictures), out=folder, sets=[*small, "train.steps=40", "tracking.mlflow=false"])
    monkeypatch.undo()
    restore = pretraining.restore

    def forgetful(job, state):
        fresh = {name: value.clone() for name, value in job.method.state_dict().items()}
        empty = job.optimiser.state_dict()
        if lost in fresh:
            state["method"][lost] = fresh[lost]
        elif lost == "optimiser":
            state["optimiser"] = empty
        restore(job, state)

    monkeypatch.setattr(pretraining, "restore", forgetful)
    if lost == "step":
        state, _ = checkpoint.load(folder)
        whole(folder, {**state, "step": 15})
    pretrain(reporter(), resume=folder)
    ours = final_state(folder)
    assert any(not torch.equal(ours[name], uninterrupted[name]) for name in ours)


def test_a_finished_run_a_changed_configuration_and_other_data_are_not_resumed(pictures, small, reporter, tmp_path):
    folder = tmp_path / "run"
    sets = [*small, "tracking.mlflow=false"]
    pretrain(reporter(), data=str(pictures), out=folder, sets=sets)
    with pytest.raises(UserError, match="finished"):
        pretrain(reporter(), resume=folder)
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match="started with"):
        pretrain(reporter(), resume=folder, sets=["train.lr=0.5"])
    with pytest.raises(UserError, match="Nothing to resume"):
        pretrain(reporter(), resume=tmp_path)
