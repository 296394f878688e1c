"""What a user is told where a run goes on elsewhere, and where GPUs stay idle."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medssl.commands.pretrain import pretrain
from medssl.errors import Interrupted
from medssl.pretraining.trainer import Training, tell_other_machine
from medssl.train import checkpoint, precision
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


@pytest.mark.parametrize(("before", "measured"), [("float32", True), ("bfloat16", False)])
def test_a_run_that_goes_on_on_a_cpu_keeps_its_precision_whatever_is_measured_there_today(
    before, measured, pictures, small, reporter, tmp_path, monkeypatch
):
    """The bits of a resumed run would otherwise depend on what else the machine does."""
    monkeypatch.setattr(precision, "bfloat16_is_faster", lambda: before == "bfloat16")
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    sets = [*small, "data.size=24", "train.precision=auto", "tracking.mlflow=false", "train.workers=0", "train.steps=4"]
    folder, save = tmp_path / "run", checkpoint.save

    def stop_at_2(folder_, state):
        save(folder_, state)
        raise Interrupted("half way")

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(checkpoint, "save", stop_at_2)
        pretrain(reporter(), data=str(pictures), out=folder, sets=sets)
    monkeypatch.setattr(precision, "bfloat16_is_faster", lambda: measured)
    heard = reporter()
    pretrain(heard, resume=folder)
    assert checkpoint.load(folder)[0]["computed_with"]["train.precision"] == before
    assert not any("other arithmetic" in line for line in [*heard.said, *heard.warned])


def test_a_run_in_bfloat16_goes_on_in_float32_on_a_cpu_without_instructions_for_it(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    before = job("cpu", torch.bfloat16, "albumentations").computed_with
    chosen = precision.choose_precision("auto", torch.device("cpu"), before=before["train.precision"])
    assert chosen is None
    assert "train.precision bfloat16 before, float32 now" in tell_other_machine(
        job("cpu", chosen, "albumentations"), {"computed_with": before}
    )


def test_a_run_on_volumes_does_not_go_on_in_bfloat16_whose_gradients_are_wrong_there(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    assert precision.choose_precision("auto", torch.device("cpu"), (32, 32, 32), before="bfloat16") is None


@pytest.mark.parametrize(("visible", "processes", "told"), [(4, 1, True), (1, 1, False), (4, 4, False)])
def test_one_process_that_sees_several_gpus_is_told_the_command_that_uses_them(visible, processes, told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    team = Team(Launch())
    team.size = processes
    note = tell_idle_gpus(team, CUDA)
    assert ("torchrun --nproc-per-node 4 -m medssl pretrain" in note) is told
    assert bool(note) is told
    assert tell_idle_gpus(team, torch.device("cpu")) == ""
