"""What a configuration leaves open becomes numbers: steps, support set, momentum; by the images, or by a budget of time."""

import time

import pytest

from medssl.commands.pretrain import pretrain
from medssl.config import Config, resolve
from medssl.plain_yaml import read_yaml
from medssl.pretraining.fit_to_data import fit_to_data
from medssl.runs.run_dir import load_config


def fitted(images: int, **train: float) -> Config:
    return fit_to_data(resolve({"train": {"batch_size": 64, "epochs": 10, **train}}), images)


@pytest.mark.parametrize(
    ("images", "train", "steps"),
    [
        (640, {}, 100),
        (640, {"min_steps": 300}, 300),
        (64_000, {"min_steps": 300}, 10_000),
        (640, {"min_steps": 300, "steps": 7}, 7),
        (10, {"min_steps": 5}, 10),
    ],
)
def test_epochs_are_the_length_above_a_floor_and_steps_are_taken_as_they_are(images, train, steps):
    assert fitted(images, **train).train.steps == steps


def test_a_fitted_configuration_stays_as_it_is():
    once = fitted(500, min_steps=90_000)
    assert once.method.support_size == 250
    assert once.method.momentum == pytest.approx(1 - 20 / 90_000)
    assert fit_to_data(once, 10_000) == once


def test_the_run_folder_holds_the_numbers_and_the_run_says_them(pictures, tmp_path, small, reporter):
    lines = reporter()
    sets = [item for item in small if "support_size" not in item and "momentum" not in item]
    folder = pretrain(lines, data=str(pictures), out=tmp_path / "run", sets=[*sets, "tracking.mlflow=false"])
    config = read_yaml(folder / "config.yaml")
    images = int(next(line for line in lines.said if line.startswith("training")).split(" images")[0].split()[-1])
    assert config["method"]["support_size"] == images // 2
    assert config["method"]["momentum"] == 0
    assert any(f"support_size {images // 2}, momentum 0" in line for line in lines.said)


@pytest.mark.slow
def test_minutes_become_steps_that_take_about_so_long(pictures, tmp_path, small, reporter):
    lines, sets = reporter(), [item for item in small if "train.steps" not in item]
    began = time.monotonic()
    folder = pretrain(lines, data=str(pictures), out=tmp_path / "run", sets=[*sets, "train.minutes=0.02", "tracking.mlflow=false"])
    assert time.monotonic() - began < 60
    (line,) = [line for line in lines.said if line.startswith("budget")]
    steps, seconds = int(line.split(" steps")[0].split()[-1]), float(line.split(" of ")[1].split()[0])
    assert steps == load_config(folder).train.steps
    assert steps == pytest.approx(1.2 / seconds, rel=0.05, abs=1)
    assert load_config(folder).train.minutes is None
