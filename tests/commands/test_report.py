"""`medssl report`: which page is written where, and what a run without whole results is answered with."""

import json
import sys

import numpy as np
import pytest
from compared import FLAT, PATIENTS, RIGHT, Y, write_run

from medssl.__main__ import main
from medssl.evaluate.stats import Resamples, interval_or_none
from medssl.evaluate.stats.bootstrap import resample_scores
from medssl.evaluate.stats.metrics import METRICS, score

DRAWN = {"pretrained": {"10pct": [RIGHT]}, "random": {"10pct": [FLAT]}}


@pytest.fixture
def medssl(monkeypatch, capsys, tmp_path):
    """medssl(arguments...) -> (exit code, what it printed), in a folder with three runs, two of them on the same test images."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a", DRAWN, method="moco")
    write_run(tmp_path / "runs" / "b", DRAWN, method="simclr")
    write_run(tmp_path / "other" / "c", DRAWN, data="lung", patients=np.array([f"x{p}" for p in PATIENTS]))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["medssl", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


@pytest.mark.slow
def test_one_run_gets_its_own_report_again_and_keeps_all_else(medssl, tmp_path):
    document = json.loads((tmp_path / "runs/a/results.json").read_text())
    for row, p in zip(document["summary"], (RIGHT, FLAT), strict=True):
        prob = np.column_stack([1 - p, p])
        scores, values = score(Y, prob), resample_scores(Y, [prob], Resamples(PATIENTS, 200, seed=0))
        row |= {name: {"mean": scores[name], **interval_or_none(values[name], 0.95)} for name in METRICS}
    document["task"]["pool"]["n_patients"] = 9
    (tmp_path / "runs/a/results.json").write_text(json.dumps(document))
    before = {path.name: path.read_bytes() for path in (tmp_path / "runs/a").iterdir()}
    assert medssl("runs/a")[0] == 0
    page = (tmp_path / "runs/a/report.html").read_text()
    assert "Label efficiency: " in page and "moco" in page
    assert all((tmp_path / "runs/a" / name).read_bytes() == content for name, content in before.items())
    code, said = medssl("runs/a")
    assert code == 2 and "No classifier at" in said and "it is not replaced" in said
    assert medssl("runs/a", "--overwrite")[0] == 0
    code, said = medssl("runs/a", "--out", "page.html")
    assert code == 0 and "report    page.html (1 run)\n" in said and "There is no map of the features, neighbours and Grad-CAM" in said
    assert (tmp_path / "runs/a/figures/label_efficiency.png").is_file()
    assert (tmp_path / "page.html").read_text() == page
    code, said = medssl("runs/a", "--out", "page.html")
    assert code == 2 and "--overwrite" in said


def test_a_folder_of_runs_gets_a_comparison_in_it_which_is_not_replaced_unasked(medssl, tmp_path):
    assert medssl("runs") == (0, "report    runs/comparison.html (2 runs)\n")
    page = (tmp_path / "runs/comparison.html").read_text()
    assert "MoCo" in page and "SimCLR" in page
    code, said = medssl("runs")
    assert code == 2 and "runs/comparison.html exists" in said and "--overwrite" in said
    assert medssl("runs", "--overwrite")[0] == 0
    assert (tmp_path / "runs/comparison.html").read_text() == page


def test_runs_of_several_places_are_joined_here_each_once_and_other_test_patients_are_not_compared(medssl, tmp_path):
    assert medssl("runs", "runs/a", "other/c") == (0, "report    comparison.html (3 runs)\n")
    page = (tmp_path / "comparison.html").read_text()
    assert "Charts of different data sets are not on the same test images" in page
    assert medssl(".", "--out", "all.html") == (0, "report    all.html (3 runs)\n"), "runs may lie two folders deep, as in a study"


def spoil(**changes):
    def change(run):
        document = json.loads((run / "results.json").read_text())
        (run / "results.json").write_text(json.dumps({**document, **changes}))

    return change


def without(key):
    def change(run):
        document = json.loads((run / "results.json").read_text())
        del document[key]
        (run / "results.json").write_text(json.dumps(document))

    return change


DAMAGES = {
    "no results": (lambda run: (run / "results.json").unlink(), "no finished fine-tuning"),
    "half of them": (lambda run: (run / "results.json").write_text('{"format": 2, "summ'), "is damaged"),
    "no text": (lambda run: (run / "results.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "nested without end": (lambda run: (run / "results.json").write_text("[" * 100_000), "is damaged"),
    "a list": (lambda run: (run / "results.json").write_text("[]"), "has format None"),
    "of another version": (spoil(format=3), "has format 3, and this medssl reads 2"),
    "without a task": (without("task"), "task: Field required"),
    "without a score": (spoil(summary=[]), "holds no score"),
    "a score that is text": (spoil(summary=[{"auroc": "high"}]), "summary.0.auroc"),
    "not a number": (lambda run: (run / "results.json").write_text('{"format": NaN}'), "is damaged"),
    "other predictions": (lambda run: write_run(run.parent / "d", {"pretrained": {"10pct": [FLAT]}}), ""),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_results_that_are_missing_or_damaged_end_with_two_and_the_name_of_the_run(medssl, tmp_path, fault):
    change, expected = DAMAGES[fault]
    run = tmp_path / "runs" / "a"
    change(run)
    if fault == "other predictions":
        (tmp_path / "runs/d/predictions.parquet").replace(run / "predictions.parquet")
        expected = "do not belong together"
    code, said = medssl("runs/a", "runs/b")
    assert code == 2, said
    assert "runs/a" in said and expected in said and "Traceback" not in said
    assert not (tmp_path / "comparison.html").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "no finished fine-tuning in nowhere"),
        (["runs", "--out", "nowhere/page.html"], "no folder"),
        (["runs", "--out", "other"], "is a folder"),
    ],
)
def test_a_wrong_path_is_answered_with_the_remedy(medssl, arguments, expected):
    code, said = medssl(*arguments)
    assert code == 2 and expected in said and "Traceback" not in said


@pytest.mark.fault("R31")
def test_results_whose_parts_do_not_fit_together_are_one_message(medssl, tmp_path):
    file = tmp_path / "runs/a/results.json"
    document = json.loads(file.read_text())
    for change in ({"classes": []}, {"classes": document["task"]["classes"][:1]}, {"kind": "multilabel"}):
        file.write_text(json.dumps({**document, "task": {**document["task"], **change}}))
        code, said = medssl("runs/a", "--out", "page.html", "--overwrite")
        assert code == 2 and "Traceback" not in said and str(tmp_path / "runs/a") in said.replace("\n", ""), said
