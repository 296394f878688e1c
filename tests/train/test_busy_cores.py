"""A training with more threads than free cores says so: threads that share a core wait for each other."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import Lines

from medssl.commands import finetune as command
from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.train import busy_cores

BEFORE = "cpu  90 0 10 300 0 0 0 0 0 0\ncpu0 40 0 10 100 0 0 0 0 7 7\ncpu1 50 0 0 200 0 0 0 0 0 0\ncpu12 0 0 0 9 0 0 0 0 0 0\nintr 5\n"
AFTER = "cpu  99 0 19 302 9 0 0 0 0 0\ncpu0 45 0 15 100 5 5 0 0 9 9\ncpu1 54 0 0 206 0 0 0 0 0 0\ncpu13 9 0 0 9 0 0 0 0 0 0\nintr 6\n"


@pytest.fixture
def two_threads(monkeypatch):
    """What torch says; two real threads would wait for each other beside other tests."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def test_a_core_is_busy_that_was_idle_for_less_than_half_of_the_time():
    """cpu0: 15 of 20 ticks, waiting for a disk is idle, too; cpu1: 4 of 10; the others are not in both texts."""
    assert busy_cores.busy_cores(BEFORE, AFTER) == {0}
    assert busy_cores.busy_cores(BEFORE, BEFORE) == set()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="counts cores in /proc/stat")
def test_a_core_with_a_busy_program_is_told_and_how_many_threads_are_left(two_threads, monkeypatch):
    core = max(os.sched_getaffinity(0))
    command = [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {core})
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout
        program.stdout.readline()
        time.sleep(0.1)
        said = busy_cores.tell_busy_cores(torch.device("cpu"))
        program.kill()
    assert said.startswith("Other programs keep 1 of 1 cores busy, and this training has 2 threads.")
    assert "OMP_NUM_THREADS=1 before" in said


@pytest.mark.parametrize(
    ("device", "processes", "threads", "cores"),
    [("cuda", 1, 2, 2), ("cpu", 2, 2, 2), ("cpu", 1, 1, 2), ("cpu", 1, 2, 3)],
)
def test_nothing_is_said_of_gpus_several_processes_or_where_the_cores_suffice(device, processes, threads, cores, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(busy_cores, "busy_cores", lambda *_: {0})
    told = busy_cores.tell_busy_cores(torch.device("cpu"))
    assert bool(told) == ((threads, cores) == (2, 2)), "so it is the GPU and the processes of which nothing is said"
    assert busy_cores.tell_busy_cores(torch.device(device), processes) == ""


class Stopped(Exception):
    """What a command does next does not matter here."""


def stop(*_: object) -> None:
    raise Stopped


def warned(lines: Lines) -> int:
    return sum("1 of 2 cores busy" in text for text in lines.warned)


def test_a_training_looks_once_and_warns_and_a_linear_classifier_does_not(two_threads, pictures, small, reporter, tmp_path, monkeypatch):
    looked: list[tuple[str, str]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(busy_cores, "busy_cores", lambda *texts: looked.append(texts) or {0})
    sets, encoder = [*small, "tracking.mlflow=false"], tmp_path / "encoder"
    pretrain(lines := reporter(), data=str(pictures), out=encoder, sets=[*sets, "train.steps=1", "train.minutes=0.01"])
    assert (len(looked), warned(lines)) == (1, 1)
    monkeypatch.setattr(command, "run_experiment", stop)
    for mode in ("full", "linear"):
        with pytest.raises(Stopped):
            finetune(lines := reporter(), mode=mode, labels="50pct", encoder=str(encoder), out=tmp_path / mode, sets=sets)
        assert (len(looked), warned(lines)) == (2, mode == "full")
