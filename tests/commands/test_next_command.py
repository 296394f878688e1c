"""The command that each command prints for what comes next, pasted into a shell."""

import html
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import resolve
from medssl.runs.command_line import command_line, pretrain_after_prepare
from medssl.runs.dataset import PreparedDataset
from medssl.runs.next_command import advised_labels, predict_after_finetune

NAME = "my scans [ward 3]"


def following(said: str) -> str:
    """The command behind the word next, which is the last line."""
    (line,) = [line for line in said.splitlines() if line.startswith("next ")]
    return line.removeprefix("next").strip()


@pytest.mark.slow
def test_each_printed_command_runs_as_it_stands_from_the_first_to_a_table_of_predictions(pictures, small, tmp_path):
    shutil.copytree(pictures, tmp_path / NAME)
    (tmp_path / NAME / "labels.csv").rename(tmp_path / NAME / "list of all.csv")
    (tmp_path / NAME / "other.csv").write_text("a\n1\n")  # two tables: one must be named, in every command
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "MEDSSL_CACHE": str(tmp_path / "cache")}

    def paste(line: str) -> str:
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    tables = ["data.source.table=list of all.csv", "data.size=16"]
    said = paste(command_line("prepare", {"data": NAME, "preset": "medmnist_cpu"}, tables))
    line = following(said)
    assert shlex.split(line) == ["medssl", "pretrain", "--data", NAME, "--preset", "medmnist_cpu", "--set", tables[0], "--set", tables[1]]
    training = [item for item in small if not item.startswith("data.")] + ["train.steps=2", "tracking.mlflow=false"]
    options = command_line("", {"out": "runs of [today]/first"}, training).removeprefix("medssl ")
    line = following(paste(f"{line} {options}"))
    assert line == "medssl finetune --labels all --encoder 'runs of [today]/first'"
    page = (tmp_path / "runs of [today]" / "first" / "report.html").read_text("utf-8")
    assert html.escape(line) in page.replace("&#39;", "&#x27;"), "the report advises the same"
    line = following(paste(f"{line} --out 'runs of [today]/second'"))
    assert shlex.split(line)[:6] == ["medssl", "predict", "--model", "runs of [today]/second", "--data", str(tmp_path / NAME)]
    paste(line)
    assert len((tmp_path / "runs of [today]" / "second" / "predictions.csv").read_text().splitlines()) == 61


def test_options_and_settings_are_quoted_and_none_is_left_out():
    line = command_line("prepare", {"data": NAME, "out": None}, ["data.window=[lung, bone]"])
    assert line == "medssl prepare --data 'my scans [ward 3]' --set 'data.window=[lung, bone]'"


def test_a_store_no_longer_needs_the_settings_of_its_source_but_all_others():
    sets = ["frames=first", "data.size=64", "split_seed=2"]
    assert pretrain_after_prepare("in", "p", None, sets).endswith(
        "--data in --preset p --set data.source.frames=first --set data.size=64 --set data.split_seed=2"
    )
    assert pretrain_after_prepare("in", None, Path("a b"), sets) == (
        "medssl pretrain --data 'a b' --set data.size=64 --set data.split_seed=2"
    )


class Table:
    """A store's table alone."""

    def __init__(self, patients: int, **labels: list[str]) -> None:
        self.table = pd.DataFrame({"patient": [f"p{n}" for n in range(patients)], **{f"label:{name}": v for name, v in labels.items()}})


@pytest.mark.parametrize(
    ("patients", "labels", "expected"),
    [
        (200, {"label": ["a", "b"]}, {"labels": "10pct"}),
        (80, {"label": ["a", "b"]}, {"labels": "all"}),
        (200, {"grade": ["1", "2"], "sex": ["f", "m"]}, {"label": "grade", "labels": "10pct"}),
        (200, {"mass": ["0", "1"], "cyst": ["0", "0"]}, {"labels": "10pct"}),
        (200, {}, None),
    ],
)
def test_a_fine_tuning_takes_a_tenth_where_it_is_enough_and_names_a_column_where_it_must(patients, labels, expected):
    store = Table(patients, **{name: values * (patients // 2) for name, values in labels.items()})
    nobody = np.zeros(patients, bool)
    dataset = PreparedDataset(store, np.full(patients, "train"), nobody, "", None)  # pyright: ignore[reportArgumentType]
    assert advised_labels(resolve({}), dataset) == expected


def test_after_a_knn_which_is_not_exported_comes_a_linear_probe_and_else_a_prediction_with_what_the_source_was_told():
    config = {"data": {"path": NAME, "source": {"name": "folder", "columns": {"patient": "case no"}}, "label": "sex"}}
    assert predict_after_finetune(Path("r"), resolve(config), Path("e")) == (
        f"medssl predict --model r --data '{NAME}' --out r/predictions.csv --set 'data.source.columns={{\"patient\": \"case no\"}}'"
    )
    line = predict_after_finetune(Path("r"), resolve({**config, "finetune": {"mode": "knn"}}), Path("e"))
    assert line == "medssl finetune --label sex --labels 10pct --mode linear --encoder e"
