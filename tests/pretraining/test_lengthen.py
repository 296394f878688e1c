"""A finished pretraining is made longer, in its own run folder."""

import json
import shutil

import pytest

from medssl.commands import pretrain as pretraining
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError
from medssl.plain_yaml import read_yaml
from medssl.train import checkpoint

DONE = 12


@pytest.fixture
def finished(pretrained, tmp_path):
    """A copy of a finished run of 12 steps."""
    return shutil.copytree(pretrained[0], tmp_path / "run")


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_keeps_its_method_and_no_optimiser_and_only_one_checkpoint(pretrained, small, pictures, tmp_path, reporter):
    state = checkpoint.load(pretrained[0])[0]
    assert state["step"] == DONE and "method" in state and "optimiser" not in state
    assert sorted(path.name for path in pretrained[0].glob("*.ckpt")) == ["last.ckpt"]
    sets = [*small, "train.steps=2", "train.keep_optimiser=true", "tracking.mlflow=false"]
    kept = pretrain(reporter(), data=str(pictures), out=tmp_path / "kept", sets=sets)
    assert "optimiser" in checkpoint.load(kept)[0]


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_steps_with_the_learning_rate_of_the_longer_training(finished, reporter, pictures, small, tmp_path):
    before = checkpoint.load(finished)[0]["method"]
    encoder = (finished / "encoder.safetensors").read_bytes()
    said = reporter()
    pretrain(said, resume=finished, sets=["train.steps=20", "tracking.mlflow=false"])
    assert any(line.startswith(f"training  steps {DONE} to 20") for line in said.said)
    state, rows = checkpoint.load(finished)[0], rows_of(finished)
    assert state["step"] == 20 and [row["step"] for row in rows] == list(range(1, 21))
    pushed = {name: int(value) for name, value in state["method"].items() if name.endswith("pushed")}
    assert pushed and all(value == int(before[name]) * 20 // DONE for name, value in pushed.items())
    assert (finished / "encoder.safetensors").read_bytes() != encoder
    assert read_yaml(finished / "config.yaml")["train"]["steps"] == 20
    assert "20 steps, " in (finished / "report.html").read_text()
    whole = pretrain(reporter(), data=str(pictures), out=tmp_path / "whole", sets=[*small, "train.steps=20", "tracking.mlflow=false"])
    assert [row["lr"] for row in rows[DONE:]] == [row["lr"] for row in rows_of(whole)[DONE:]]


@pytest.mark.slow
def test_epochs_say_the_new_length_by_the_number_of_images(finished, reporter):
    config = read_yaml(finished / "config.yaml")
    images = json.loads((finished / "card.json").read_text())["pretraining"]["pixels"]["hashes"]
    pretrain(reporter(), resume=finished, sets=["train.epochs=9", "tracking.mlflow=false"])
    assert checkpoint.load(finished)[0]["step"] == 9 * (len(images) // config["train"]["batch_size"])


@pytest.mark.slow
def test_a_longer_run_that_was_killed_goes_on_to_the_new_length_without_being_told_again(finished, reporter, monkeypatch):
    def die(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as killed:
        killed.setattr(pretraining, "fit", die)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain(reporter(), resume=finished, sets=["train.steps=20", "tracking.mlflow=false"])
    assert checkpoint.load(finished)[0]["step"] == DONE
    pretrain(reporter(), resume=finished, sets=["tracking.mlflow=false"])
    assert checkpoint.load(finished)[0]["step"] == 20


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([], r"is finished, with 12 steps.*--set train\.steps=24"),
        (["train.steps=12"], "is finished, with 12 steps"),
        (["train.steps=5"], "is finished, with 12 steps"),
        (["train.epochs=1"], "has 12 steps, and 1 epochs are"),
        (["train.minutes=3"], "not by train.minutes"),
        (["train.steps=20", "method.temperature=0.3"], "is not the one that"),
    ],
)
def test_a_finished_run_that_is_not_made_longer_stays_as_it_is(finished, reporter, sets, words):
    files = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=words):
        pretrain(reporter(), resume=finished, sets=sets)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file() and path.name in files} == files
