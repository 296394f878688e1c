"""A fine-tuning that is killed, that fails after its results, or that meets another one in its folder loses nothing."""

import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from surroundings import small_disk

from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.commands.pretrain import pretrain
from medssl.commands.report import report
from medssl.errors import UserError
from medssl.evaluate import experiment
from medssl.evaluate.schema import read_results
from medssl.report import gradcam

# Waits in the preparation of the data, which comes before anything is fitted, until its standard input ends.
WAITS = """
import sys
from pathlib import Path
from medssl.commands import finetune as command
prepare = command.prepare_dataset
def slowly(*given, **named):
    print("preparing", flush=True)
    sys.stdin.read()
    return prepare(*given, **named)
command.prepare_dataset = slowly
from medssl.console import Console
command.finetune(Console(), labels="50pct", encoder=sys.argv[1], out=Path(sys.argv[2]), overwrite=True, sets=sys.argv[3:])
"""


@pytest.fixture(scope="module")
def encoder(pictures, small, reporter, tmp_path_factory) -> tuple[Path, list[str]]:
    """A pretraining of two steps, and settings of its fine-tunings."""
    folder = tmp_path_factory.mktemp("runs") / "pretrain"
    sets = [*small, "train.steps=2", "train.workers=0", "finetune.steps=6"]
    pretrain(reporter(), data=str(pictures), out=folder, sets=[*sets, "tracking.mlflow=false"])
    return folder, sets


def _read(run: Path) -> dict[str, Any]:
    return read_results(run).to_dict()


def given(encoder: tuple[Path, list[str]], out: Path, *more: str) -> dict[str, Any]:
    return {"labels": "50pct", "encoder": str(encoder[0]), "out": out, "sets": [*encoder[1], *more]}


@pytest.mark.slow
def test_a_fine_tuning_that_was_killed_goes_on_and_fits_nothing_twice(encoder, reporter, tmp_path, monkeypatch):
    quiet, out = "tracking.mlflow=false", tmp_path / "run"
    flags = {"--labels": "50pct", "--mode": "full", "--encoder": str(encoder[0]), "--out": str(out)}
    settings = [part for item in [*encoder[1], quiet] for part in ("--set", item)]
    line = [sys.executable, "-m", "medssl", "finetune", *(part for flag in flags.items() for part in flag), *settings]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 200
    while len(list(out.glob("cells/*.npz"))) < 2 and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.005)
    process.kill()
    process.wait()
    kept = len(list(out.glob("cells/*.npz")))
    with pytest.raises(UserError, match="is not finished"):
        predict(reporter(), data="phantom", model=str(out), out=tmp_path / "table.csv")
    fitted = []
    fit = experiment.fit_full
    monkeypatch.setattr(experiment, "fit_full", lambda *args, **named: fitted.append(1) or fit(*args, **named))
    with pytest.raises(UserError, match="exists and is not empty"):
        finetune(reporter(), mode="full", **{**given(encoder, out, quiet), "labels": "20pct"})
    finetune(reporter(), mode="full", **given(encoder, out, quiet))
    alone = finetune(reporter(), mode="full", **given(encoder, tmp_path / "alone", quiet))
    ours, theirs = _read(out), _read(alone)
    needed = [cell for cell in theirs["cells"] if cell["mode"] == "full"]
    assert 2 <= kept < len(needed) and len(fitted) == len(needed) - kept + len(needed)
    assert ours["cells"] == theirs["cells"] and ours["summary"] == theirs["summary"]
    assert not (out / "cells").exists() and (out / "report.html").is_file()
    with pytest.raises(UserError, match="exists and is not empty"):
        finetune(reporter(), mode="full", **given(encoder, out, quiet))


@pytest.mark.slow
def test_results_are_complete_and_tracked_where_the_pictures_fail_and_the_report_is_made_later(encoder, reporter, tmp_path, monkeypatch):
    """First Grad-CAM fails, then the disk is full under the figures, then nothing."""
    out, said = tmp_path / "run", reporter()

    def fails(*_: object) -> None:
        raise RuntimeError("planted fault")

    with monkeypatch.context() as patch:
        patch.setattr(gradcam, "grad_cam", fails)
        finetune(said, **given(encoder, out, "tracking.mlflow=true"))
    warning = "\n".join(said.warned)
    assert "RuntimeError: planted fault" in warning and f"Write the report again with: medssl report {out}" in warning
    assert {path.name for path in out.iterdir()} >= {"predictions.parquet", "splits.json", "classifier.json", "results.json", "report.html"}
    assert not (out / "cells").exists()
    names = {path.name for path in (out / "figures").iterdir()}
    assert "roc.png" in names and "grad_cam.png" not in names, "what does not need Grad-CAM is there"
    tracked = sqlite3.connect(tmp_path / "mlflow.db").execute("select distinct key from metrics").fetchall()
    assert ("linear.50pct.pretrained.auroc",) in tracked
    assert list(tmp_path.glob("mlartifacts/**/results.json"))

    shutil.rmtree(out / "figures")
    with small_disk(out / "figures", kilobytes=8), pytest.raises(UserError, match="No space left"):
        report(reporter(), runs=[out])
    last = reporter()
    report(last, runs=[out])
    assert last.warned == [] and (out / "figures" / "grad_cam.png").is_file()
    assert 'id="grad-cam"' in (out / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_of_two_fine_tunings_that_may_both_overwrite_a_folder_one_is_refused_from_the_start(encoder, reporter, tmp_path):
    out, quiet = tmp_path / "run", "tracking.mlflow=false"
    line = [sys.executable, "-c", WAITS, str(encoder[0]), str(out), *encoder[1], quiet]
    first = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout
    while "preparing" not in (text := first.stdout.readline()):
        assert text, "it has ended"
    before = (out / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=f"in use by process {first.pid} "):
        finetune(reporter(), overwrite=True, **{**given(encoder, out, quiet), "labels": "20pct"})
    assert (out / "config.yaml").read_bytes() == before
    first.communicate(timeout=200)
    assert first.returncode == 0
    assert {row["labels"] for row in _read(out)["summary"]} == {"50pct"}
