"""Several runs joined: who shares a chart, who is ahead, what is drawn once."""

import numpy as np
import pytest
from compared import FLAT, PATIENTS, RIGHT, write_run

from medssl.compare.differences import read_predictions
from medssl.compare.runs import Run, joined

ALMOST = np.array([0.1, 0.2, 0.1, 0.65, 0.8, 0.9, 0.7, 0.6])  # one of 16 pairs wrong: AUROC 0.9375
BASELINES = {"random": {"10pct": [FLAT], "100pct": [FLAT]}, "pixels": {"10pct": [FLAT], "100pct": [1 - RIGHT]}}


@pytest.fixture
def run(tmp_path):
    """Makes runs: run("nih/linear-a", probabilities of its encoder...)."""

    def make(name, probabilities, *, fractions=("10pct", "100pct"), baselines=BASELINES, **facts):
        drawn = {"pretrained": {labels: [probabilities] for labels in fractions}, **baselines}
        folder = tmp_path / name
        document = write_run(folder, drawn, **facts)
        return Run(folder.name, folder.parent.name, document, read_predictions(folder / "predictions.parquet", document))

    return make


def names(panel):
    return [line.name for line in panel.lines]


def test_runs_on_the_same_images_share_a_chart_and_a_baseline_of_the_same_numbers_is_there_once(run):
    (panel,) = joined([run("nih/linear-a", RIGHT, method="moco"), run("nih/linear-b", ALMOST, method="simclr")])
    assert names(panel) == ["MoCo · a", "SimCLR · b", "random start", "raw pixels"]
    assert panel.fractions == ["10pct", "100pct"]


def test_baselines_of_other_numbers_are_told_apart_by_their_run(run):
    other = {**BASELINES, "random": {"10pct": [FLAT], "100pct": [ALMOST]}}
    (panel,) = joined([run("nih/linear-a", RIGHT, method="moco"), run("nih/linear-b", ALMOST, method="simclr", baselines=other)])
    assert names(panel)[2:] == ["random start (a)", "random start (b)", "raw pixels"]


def test_of_a_baseline_that_runs_share_the_one_with_more_fractions_is_kept(run):
    few = {"random": {"100pct": [FLAT]}}
    (panel,) = joined([run("nih/linear-a", RIGHT, method="moco", baselines=few), run("nih/linear-b", ALMOST, method="simclr")])
    assert names(panel)[2:] == ["random start", "raw pixels"]
    assert set(panel.lines[2].rows) == {"10pct", "100pct"}


def test_who_is_ahead_in_every_resample_is_best_and_one_pair_of_images_leaves_it_open(run):
    (panel,) = joined([run("nih/linear-a", FLAT, method="moco"), run("nih/linear-b", RIGHT, method="simclr")])
    best = panel.ahead("100pct")
    assert best is not None and best.name == "SimCLR · b"
    gains = {other.name: gain for other, gain in panel.orders["100pct"][0].gains}
    assert (gains["MoCo · a"].gain, gains["MoCo · a"].low) == (0.5, 0.5)
    assert (gains["raw pixels"].gain, gains["raw pixels"].low) == (1, 1)
    (panel,) = joined([run("nih/linear-c", ALMOST, method="moco"), run("nih/linear-d", RIGHT, method="simclr")])
    order = panel.orders["100pct"][0]
    assert order.first.name == "SimCLR · d" and panel.ahead("100pct") is None, "resamples without that pair show no difference"


def test_encoders_are_compared_with_each_other_where_a_baseline_leads(run):
    floor = {"pixels": {"10pct": [RIGHT], "100pct": [RIGHT]}}
    runs = [run("nih/linear-a", 1 - RIGHT, method="moco", baselines=floor), run("nih/linear-b", FLAT, method="simclr", baselines=floor)]
    (panel,) = joined(runs)
    firsts = [(order.first.name, [other.name for other, _ in order.gains]) for order in panel.orders["10pct"]]
    assert firsts == [("raw pixels", ["MoCo · a", "SimCLR · b"]), ("SimCLR · b", ["MoCo · a"])]


def test_an_encoder_that_has_seen_test_images_is_never_best(run):
    cheat = run("nih/linear-a", RIGHT, method="moco")
    cheat.document["leak_check"]["leaked"] = 1
    (panel,) = joined([cheat, run("nih/linear-b", FLAT, method="simclr")])
    assert panel.orders["100pct"][0].first.name == "MoCo · a" and panel.ahead("100pct") is None


def test_other_test_patients_stand_apart_and_are_ranked_by_nothing(run):
    strangers = np.array([f"other-{patient}" for patient in PATIENTS])
    first, second = joined([run("a/linear-a", FLAT, baselines={}), run("b/linear-b", RIGHT, baselines={}, patients=strangers)])
    assert (first.data, second.data) == ("nih, test set 1", "nih, test set 2")
    assert not first.orders and not second.orders


def test_a_run_without_predictions_stands_alone(run):
    whole, bare = run("nih/linear-a", RIGHT, method="moco"), run("nih/linear-b", FLAT, method="simclr")
    panels = joined([whole, Run(bare.name, bare.place, bare.document, None)])
    assert [len(panel.lines) for panel in panels] == [3, 3]
    assert panels[0].orders and not panels[1].orders


def test_an_encoder_has_one_number_on_all_data_sets_and_in_all_modes(run):
    runs = [
        run("nih/linear-b", FLAT, method="simclr"),
        run("nih/linear-a", RIGHT, method="moco"),
        run("nih/full-a", RIGHT, method="moco", mode="full"),
        run("pneumonia/linear-a", RIGHT, method="moco", data="pneumonia", patients=np.array(list("stuvwxyz"))),
    ]
    panels = joined(runs)
    assert [(panel.data, panel.mode) for panel in panels] == [("nih", "linear"), ("nih", "full"), ("pneumonia", "linear")]
    assert {(line.name, line.slot) for panel in panels for line in panel.lines if line.slot is not None} == {
        ("SimCLR · b", 0),
        ("MoCo · a", 1),
    }


def test_two_encoders_of_one_method_and_one_name_are_told_apart_by_their_folders(run):
    first, second = run("old/linear", RIGHT), run("new/linear", FLAT)
    second.document["encoder"]["weights_sha256"] = "other"
    (panel,) = joined([first, second])
    assert names(panel)[:2] == ["pNNCLR · old/linear", "pNNCLR · new/linear"]


def test_the_raw_pixels_of_the_full_mode_are_drawn_with_it_although_they_are_linear(run):
    full = run("nih/full-a", RIGHT, mode="full", baselines={"random": {"100pct": [FLAT]}, "pixels": {"100pct": [FLAT]}})
    for row in full.document["summary"]:
        row["mode"] = "linear" if row["init"] == "pixels" else "full"
    (panel,) = joined([full])
    assert names(panel)[1:] == ["random start", "raw pixels"] and panel.mode == "full"
