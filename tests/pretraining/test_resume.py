"""Killed at any step and resumed, a run ends with the same bits as one that was left alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from whole_volumes import PHANTOM, SMALL

from medssl.commands import pretrain as pretraining
from medssl.commands.pretrain import pretrain
from medssl.errors import Interrupted, UserError
from medssl.train import checkpoint

QUIET = ["tracking.mlflow=false"]
SLOW_DISK = """
import os, time
sync = os.fsync
def fsync(handle):
    time.sleep(60 if os.stat(handle).st_size > 100_000 else 0)  # of what a run writes, checkpoints are as large
    sync(handle)
os.fsync = fsync
"""


@pytest.fixture(scope="module")
def kills(script):
    return script("benchmarks/kills.py")


@pytest.fixture(scope="module")
def uninterrupted(pictures, small, reporter, tmp_path_factory):
    """The final state of a run of 40 steps that nobody disturbed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("calm") / "run"
    pretrain(reporter(), data=str(pictures), out=folder, sets=[*small, "train.steps=40", *QUIET])
    torch.set_num_threads(threads)
    return checkpoint.load(folder)[0]["method"]


@pytest.mark.slow
@pytest.mark.fault("R1", "R22")
def test_killed_at_three_random_steps_and_resumed_with_other_workers_the_weights_are_the_same_bits(
    uninterrupted, pictures, small, kills, tmp_path
):
    folder = tmp_path / "run"
    steps = sorted(random.SystemRandom().sample(range(3, 38), 3))
    arguments = kills.command("--data", str(pictures), "--out", str(folder), sets=[*small, "train.steps=40", *QUIET])
    codes = []
    for workers, step in zip((1, 2, 0), steps, strict=True):
        codes.append(kills.killed_after(step, folder, arguments))
        arguments = kills.command("--resume", str(folder), sets=[f"train.workers={workers}"])
    last = subprocess.run(arguments, capture_output=True, text=True, env=kills.ONE_THREAD, timeout=120, check=False)
    assert last.returncode == 0, last.stderr
    assert codes.count(-signal.SIGKILL) >= 2, f"killed at {steps}: {codes}"
    assert not kills.differing(kills.state(folder), uninterrupted), f"killed at {steps}"
    rows = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, 41)), "each step is told once"


@pytest.mark.slow
@pytest.mark.fault("R1")
def test_a_training_on_whole_volumes_is_killed_and_resumed_to_the_same_bits(kills, reporter, tmp_path):
    torch.set_num_threads(1)
    calm, folder, step = tmp_path / "calm", tmp_path / "run", random.SystemRandom().randint(3, 8)
    pretrain(reporter(), data=PHANTOM[1], preset=PHANTOM[3], out=calm, sets=[*SMALL, *QUIET, "train.workers=0"])
    code = kills.killed_after(step, folder, kills.command(*PHANTOM, "--out", str(folder), sets=[*SMALL, *QUIET, "train.workers=1"]))
    assert code == -signal.SIGKILL and checkpoint.load(folder)[0]["step"] < 12, f"killed at {step}"
    last = subprocess.run(kills.command("--resume", str(folder)), capture_output=True, env=kills.ONE_THREAD, timeout=120, check=False)
    assert last.returncode == 0, last.stderr
    assert not kills.differing(kills.state(folder), kills.state(calm)), f"killed at {step}"


@pytest.mark.slow
@pytest.mark.fault("R3")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 128 + signal.SIGUSR1)],
)
def test_a_wish_to_stop_saves_the_state_within_eight_seconds_and_exits_with_the_signals_code(
    number, code, pictures, small, kills, tmp_path
):
    folder = tmp_path / "run"
    sets = [*small, "train.steps=4000", "train.save_every_steps=5000"]  # MLflow is on: its thread must not hold up the end
    process = subprocess.Popen(
        kills.command("--data", str(pictures), "--out", str(folder), sets=sets), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        while kills.told(folder) < 5 and process.poll() is None:
            time.sleep(0.02)
        asked = time.monotonic()
        process.send_signal(number)
        said = process.communicate(timeout=60)[1].decode()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, said
    assert time.monotonic() - asked < 8
    step = checkpoint.load(folder)[0]["step"]
    assert step >= 5
    assert f"Stopped at step {step} of 4000. Continue with: medssl pretrain --resume {folder}" in said


@pytest.mark.slow
@pytest.mark.fault("R29")
def test_a_run_whose_outputs_are_lost_and_whose_terminal_closes_trains_to_its_end(pictures, small, kills, tmp_path):
    """The log is on a full disk, the reader of the errors has ended, and the terminal closes in the middle."""
    folder, (reader, errors) = tmp_path / "run", os.pipe()
    os.close(reader)
    command = kills.command("--data", str(pictures), "--out", str(folder), sets=[*small, "train.steps=40", *QUIET])
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(command, stdout=full, stderr=errors)
    os.close(errors)
    try:
        while kills.told(folder) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
    assert checkpoint.load(folder)[0]["step"] == 40
    assert (folder / "encoder.safetensors").is_file()
    assert "standard output cannot be written any more: No space left on device" in (folder / "console.txt").read_text()


@pytest.mark.slow
@pytest.mark.fault("R3", "R4")
def test_as_process_1_of_a_container_it_saves_too(pictures, small, kills, tmp_path):
    folder = tmp_path / "run"
    inside = kills.command("--data", str(pictures), "--out", str(folder), sets=[*small, "train.steps=4000", *QUIET])
    outside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*outside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a process namespace")
    process = subprocess.Popen([*outside, *inside], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while kills.told(folder) < 5 and process.poll() is None:
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        os.kill(int(children.read_text()), signal.SIGTERM)
        assert process.wait(timeout=8) == 143
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert checkpoint.load(folder)[0]["step"] >= 5


@pytest.mark.slow
@pytest.mark.fault("R3")
def test_a_second_ctrl_c_ends_it_at_once(pictures, small, kills, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    sets = [*small, "train.steps=4000", *QUIET, "train.save_every_steps=4000"]
    arguments = kills.command("--data", str(pictures), "--out", str(folder), sets=sets)
    environment = kills.ONE_THREAD | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        while kills.told(folder) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        time.sleep(3)  # the step is done and the checkpoint is being written
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=3) == -signal.SIGINT
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def half_way(pictures, small, reporter, tmp_path_factory):
    """The folder of the same run, stopped after 20 of the 40 steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("half_way") / "run"
    whole = checkpoint.save

    def stop_at_20(folder_, state):
        whole(folder_, state)
        if state["step"] == 20:
            raise Interrupted("half way")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", stop_at_20)
        with pytest.raises(Interrupted):
            pretrain(reporter(), data=str(pictures), out=folder, sets=[*small, "train.steps=40", *QUIET])
    return folder


@pytest.mark.slow
@pytest.mark.fault("R2")
@pytest.mark.parametrize(
    "lost",
    ["support.rows", "support.pushed", "target_encoder.backbone.conv1.weight", "encoder.backbone.bn1.running_mean", "optimiser", "step"],
)
def test_no_part_of_the_checkpoint_can_be_left_out(lost, half_way, uninterrupted, reporter, tmp_path, monkeypatch):
    """Resumes a run after 20 of 40 steps with one part of its state set back to the start: the bits must then differ."""
    torch.set_num_threads(1)
    folder = shutil.copytree(half_way, tmp_path / "run")
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
        for file in folder.glob("*.ckpt"):
            file.unlink()
        checkpoint.save(folder, {**state, "step": 15})
    pretrain(reporter(), resume=folder)
    ours = checkpoint.load(folder)[0]["method"]
    assert any(not torch.equal(ours[name], uninterrupted[name]) for name in ours)


def test_a_finished_run_a_changed_configuration_and_other_data_are_not_resumed(pretrained, reporter, tmp_path):
    folder = shutil.copytree(pretrained[0], tmp_path / "run")
    with pytest.raises(UserError, match="finished"):
        pretrain(reporter(), resume=folder)
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match="started with"):
        pretrain(reporter(), resume=folder, sets=["train.lr=0.5"])
    with pytest.raises(UserError, match="Nothing to resume"):
        pretrain(reporter(), resume=tmp_path)
