"""Real, short trainings that are watched: what the records then hold, what a bad step costs, and when the alarm sounds or ends the run."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medssl.commands.pretrain import pretrain, train_and_export
from medssl.errors import UserError
from medssl.pretraining.trainer import Training, build_training
from medssl.runs.dataset import prepare_dataset
from medssl.runs.resolve_config import flags_and_sets, resolve_config
from medssl.runs.run_dir import write_description
from medssl.train.feed import Feed
from medssl.train.launch import Launch
from medssl.train.processes import Team
from medssl.types import Batch

QUICK = ("tracking.mlflow=false", "train.save_every_steps=1000", "monitor.log_every_steps=10")


@pytest.fixture
def job(pictures, small, reporter, tmp_path):
    """job(*sets, method=...): a pretraining of the small pictures, ready to run."""

    def make(*sets: str, method: str = "pnnclr") -> Training:
        known = {"pnnclr": "method.", "nnclr": ("method.hidden", "method.width", "method.support_size")}.get(method, ())
        sizes = [item for item in small if not item.startswith("method.") or item.startswith(known)]
        config, source = resolve_config(reporter(), str(pictures), None, flags_and_sets(method, None, "cpu", [*sizes, *QUICK, *sets]))
        folder = tmp_path / "run"
        folder.mkdir()
        training = build_training(folder, config, prepare_dataset(source, config, reporter()), Team(Launch()))
        write_description(folder, training.config, "pretrain")
        return training

    return make


class Changed:
    """A feed whose batches are changed: `change(batch)` is the batch to be used."""

    def __init__(self, feed: Feed, change: Any) -> None:
        self._feed, self._change = feed, change
        self.steps_per_epoch = feed.steps_per_epoch

    def batch(self, step: int) -> Batch:
        return self._change(self._feed.batch(step))

    def __iter__(self) -> Iterator[Batch]:
        return map(self._change, self._feed)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=refuse) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def alarms(said: Any) -> list[str]:
    return [text for text in said.warned if text.startswith("Alarm")]


def test_each_step_says_how_long_the_rest_takes_with_the_evaluations_once_the_first_steps_are_over(job, reporter):
    this, said = job("train.steps=15", "monitor.knn_every_epochs=1"), {}
    watching = reporter()
    watching.progress = lambda _task, done, _total, facts: said.update({done: facts})
    train_and_export(watching, this)
    assert all(math.isnan(said[done]["seconds_left"]) for done in range(1, 7))
    assert all(said[done]["seconds_left"] > 0 for done in range(7, 15)), "the evaluation of step 5 was measured"
    assert said[15]["seconds_left"] == 0


def test_everything_that_is_measured_is_in_the_records_and_the_picture_in_the_folder(job, reporter):
    this = job("train.steps=15", "monitor.knn_every_epochs=1", "monitor.log_every_steps=1")
    folder = train_and_export(reporter(), this)
    rows = {row["step"]: row for row in rows_of(folder)}
    assert list(rows) == list(range(1, 16))
    assert [step for step, row in rows.items() if "knn" in row] == [5, 10, 15], "5 steps an epoch"
    assert rows[15].keys() == {
        *("step", "time", "epoch", "loss", "lr", "images_per_second", "bad_steps"),
        *("embedding_std", "embedding_rank", "alignment", "uniformity", "rankme", "knn", "probe"),
        *("nn_age", "nn_start", "nn_distinct", "nn_self_now", "nn_self_earlier", "nn_same_patient"),
        *("cos_z_nn", "cos_z_pnn", "cos_nn_pnn", "nn_label_agreement", "nn_label_chance"),
    }
    assert all(row["nn_self_now"] == 0 and row["bad_steps"] == 0 for row in rows.values())
    assert rows[2]["nn_age"] == 1, "what was pushed at all was pushed at the first step"
    assert 1 <= rows[15]["nn_age"] <= 5, "40 rows, 8 a step: the oldest is of five steps before"
    assert {path.name for path in folder.glob("*.png")} == {"views.png", "neighbours.png"}


def test_bad_steps_are_counted_over_the_run_and_leave_an_encoder_that_is_finite(job, reporter):
    this = job("train.steps=12", "monitor.log_every_steps=4")
    (this.folder / "metrics.jsonl").write_text('{"step": 0, "bad_steps": 3}\n')  # as before a resumption

    def spoil(batch: Batch) -> Batch:
        views = tuple(view.float() * (torch.nan if batch.step in (4, 9, 10) else 1) / 255 for view in batch.views)
        return replace(batch, views=views)

    this.feed = Changed(this.feed, spoil)
    train_and_export(reporter(), this)
    counted = {row["step"]: (row["loss"] is None, row["bad_steps"]) for row in rows_of(this.folder) if row["step"]}
    assert counted == {4: (False, 3), 5: (True, 4), 8: (False, 4), 10: (True, 5), 11: (True, 6), 12: (False, 6)}
    assert all(torch.isfinite(tensor).all() for tensor in load_file(this.folder / "encoder.safetensors").values())
    assert json.loads((this.folder / "card.json").read_text(), parse_constant=refuse)["facts"]["bad_steps"] == 6


@pytest.mark.slow
@pytest.mark.fault("R10")
@pytest.mark.parametrize("method", ["pnnclr", "nnclr"])
def test_a_constant_encoder_raises_the_alarm_within_50_steps_and_ends_the_run(method, job, reporter):
    this = job("train.steps=300", "monitor.collapse_steps=40", "train.save_every_steps=25", method=method)
    with torch.no_grad():
        for parameter in this.method.encoder.parameters():
            parameter.zero_()
    said = reporter()
    with pytest.raises(UserError) as stopped:
        train_and_export(said, this)
    (alarm,) = alarms(said)
    assert alarm.startswith("Alarm at step 10.")
    assert "features are the same for different images" in alarm
    for told in (
        "Stopped at step 40",
        "no gradient",
        "another seed",
        "is of step 25",
        f"--resume {this.folder} --set monitor.on_collapse=warn",
    ):
        assert told in str(stopped.value)


@pytest.mark.slow
def test_an_alarm_that_is_to_warn_only_lets_the_run_end_and_sounds_once(job, reporter):
    this = job("train.steps=30", "monitor.collapse_steps=20", "monitor.on_collapse=warn")
    with torch.no_grad():
        for parameter in this.method.encoder.parameters():
            parameter.zero_()
    said = reporter()
    train_and_export(said, this)
    assert len(alarms(said)) == 1


@pytest.mark.slow
def test_a_stopped_run_can_be_resumed_with_the_alarm_set_to_warn(job, reporter):
    never_enough = "monitor.collapse_std=1.5"
    this = job("train.steps=30", "train.save_every_steps=15", never_enough, "monitor.collapse_steps=20")
    with pytest.raises(UserError, match="Stopped at step 20"):
        train_and_export(reporter(), this)
    folder = pretrain(reporter(), resume=this.folder, sets=["monitor.on_collapse=warn"])
    assert rows_of(folder)[-1]["step"] == 30


@pytest.mark.slow
def test_images_that_are_all_alike_are_named_as_the_cause(job, reporter):
    this = job("train.steps=20")
    this.feed = Changed(this.feed, lambda batch: replace(batch, views=tuple(torch.full_like(view, 90) for view in batch.views)))
    said = reporter()
    train_and_export(said, this)
    (alarm,) = alarms(said)
    assert "views.png" in alarm


@pytest.mark.slow
@pytest.mark.fault("R10")
@pytest.mark.parametrize("method", ["pnnclr", "nnclr"])
def test_a_learning_rate_100_times_too_high_ends_the_run_and_is_named_as_the_cause(method, job, reporter):
    with pytest.raises(UserError, match=r"Stopped at step 50.*learning rate is too high.*divide train\.lr.*No checkpoint"):
        train_and_export(reporter(), job("train.steps=200", "train.lr=0.2", "monitor.collapse_steps=50", method=method))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pnnclr", "nnclr", "simclr", "supervised"])
def test_a_healthy_run_gives_no_alarm_from_its_first_step_on(method, job, reporter):
    said = reporter()
    train_and_export(said, job("train.steps=30", "train.lr=0.002", method=method))
    assert alarms(said) == []
