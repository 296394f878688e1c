"""A folder of small pictures with patients and labels, and settings that make a training of seconds."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest
from PIL import Image

SMALL = (
    "data.size=16",
    "backbone.arguments={channels: [8, 8, 16, 16]}",
    "backbone.stem=small",
    "method.hidden=32",
    "method.width=16",
    "method.support_size=40",
    "method.momentum=0.9",
    "train.batch_size=8",
    "train.steps=12",
    "train.save_every_steps=2",
    "train.precision=fp32",  # the same numbers on every CPU
    "monitor.log_every_steps=1",
    "tracking.models=false",  # a program of a network takes seconds
    "finetune.bootstraps=100",
    "finetune.draws=2",
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """60 grey pictures of 30 patients in two class folders, with a labels.csv; the class is a bright square in the middle."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    rows = ["image,patient_id,label"]
    for number in range(60):
        patient, name = number // 2, ("normal", "sick")[number // 2 % 2]
        pixels = rng.integers(60, 120, (24, 24), dtype=np.uint8)
        if name == "sick":
            pixels[8:16, 8:16] += 60
        (root / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / name / f"{number:03}.png")
        rows.append(f"{name}/{number:03}.png,{patient:03},{name}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def small() -> list[str]:
    """The settings, as values of --set."""
    return list(SMALL)


class Lines:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def progress(self, task, done, total, facts=None) -> None:
        assert done <= total


@pytest.fixture(scope="session")
def reporter():
    """Makes reporters that keep what they are told."""
    return Lines


@pytest.fixture(scope="session")
def pretrained(pictures, tmp_path_factory):
    """The folder of a finished pretraining, to read or to copy, and what was said. Its MLflow store is beside it."""
    from medssl.commands.pretrain import pretrain

    said = Lines()
    return pretrain(said, data=str(pictures), out=tmp_path_factory.mktemp("runs") / "pretrain", sets=list(SMALL)), said


@pytest.fixture
def no_pictures(monkeypatch):
    """The reports of fine-tunings are without curves and pictures, which take most of the seconds of a small fine-tuning. For tests of
    something else: tests/finetuning/test_run_report.py and tests/report/test_visuals.py have the pictures of every kind of task."""
    monkeypatch.setattr("medssl.finetuning.run_report.make_pictures", lambda *_: (None, ""))


@pytest.fixture(scope="session")
def model(pictures, tmp_path_factory):
    """A linear classifier of the pictures, as a fine-tuning leaves it."""
    from predicting import fitted_model  # torch and scikit-learn, for the tests that need them

    return fitted_model(tmp_path_factory.mktemp("work") / "runs" / "linear", pictures, Lines())


@pytest.fixture(scope="session")
def encoder_run(pictures, tmp_path_factory):
    """The folder of a pretraining on the pictures, whose encoder has random weights."""
    from predicting import exported_encoder

    folder = tmp_path_factory.mktemp("work") / "runs" / "encoder"
    exported_encoder(folder, pictures, Lines())
    return folder


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """command(arguments...) -> (exit code, what it printed), of `medssl`, run in an empty folder."""
    from medssl.__main__ import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medssl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


@pytest.fixture
def predict_command(command, model):
    """predict_command(arguments...) -> (exit code, what it printed), of `predict --model`, run in an empty folder."""

    def call(*arguments: str, model: str | None = str(model.folder)) -> tuple[int, str]:
        return command("predict", *(("--model", model) if model else ()), *arguments)

    return call


def assert_refused(
    command: Callable[..., tuple[int, str]], name: str, defaults: Mapping[str, object], arguments: Sequence[str], parts: Iterable[str]
) -> None:
    """That the command ends with 2 and one message that has these parts. `defaults`: options that are added where `arguments` lack them."""
    code, said = command(name, *(word for pair in defaults.items() if pair[0] not in arguments for word in pair), *arguments)
    assert code == 2, said
    for part in parts:
        assert part in said
    assert "Traceback" not in said
