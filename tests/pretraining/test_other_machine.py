"""What a user is told where a run goes on elsewhere, and where GPUs stay idle."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medssl.pretraining.trainer import Training, tell_other_machine
from medssl.train.launch import Launch
from medssl.train.loop import Plan
from medssl.train.processes import Team, tell_idle_gpus

CUDA = torch.device("cuda")


def job(device: str, precision: torch.dtype | None, executor: str) -> Training:
    """A training of which no more is known than with what it computes."""
    nothing: Any = None
    plan = Plan(1, 0.1, 0, torch.device(device), precision)
    return Training(Path(), nothing, nothing, nothing, nothing, nothing, plan, 0, nothing, [], executor)


def test_a_run_that_goes_on_with_other_arithmetic_says_what_has_changed():
    before = {"computed_with": job("cuda", torch.bfloat16, "torch").computed_with}
    note = tell_other_machine(job("cpu", None, "albumentations"), before)
    assert "device cuda before, cpu now; train.precision bfloat16 before, float32 now; views.executor torch before, albumentations" in note


def test_a_run_that_goes_on_as_before_and_one_whose_checkpoint_does_not_say_are_told_nothing():
    here = job("cpu", None, "albumentations")
    assert tell_other_machine(here, {"computed_with": here.computed_with}) == ""
    assert tell_other_machine(here, {}) == ""


@pytest.mark.parametrize(("visible", "processes", "told"), [(4, 1, True), (1, 1, False), (4, 4, False)])
def test_one_process_that_sees_several_gpus_is_told_the_command_that_uses_them(visible, processes, told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    team = Team(Launch())
    team.size = processes
    note = tell_idle_gpus(team, CUDA)
    assert ("torchrun --nproc-per-node 4 -m medssl pretrain" in note) is told
    assert bool(note) is told
    assert tell_idle_gpus(team, torch.device("cpu")) == ""
