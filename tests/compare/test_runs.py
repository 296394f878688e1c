"""Several runs brought together: which share a chart, which is best, and what is drawn once."""

from dataclasses import replace

import numpy as np
import pytest
from compared import FLAT, PATIENTS, RIGHT, with_changes, write_run

from medssl.compare.page import render
from medssl.compare.runs import build_comparisons

ALMOST = np.array([0.1, 0.2, 0.1, 0.65, 0.8, 0.9, 0.7, 0.6])  # one of 16 pairs wrong: AUROC 0.9375
BASELINES = {"random": {"10pct": [FLAT], "100pct": [FLAT]}, "pixels": {"10pct": [FLAT], "100pct": [1 - RIGHT]}}


@pytest.fixture
def run(tmp_path):
    """Makes runs: run("nih/linear-a", probabilities of its encoder...)."""

    def make(name, probabilities, *, fractions=("10pct", "100pct"), baselines=BASELINES, **facts):
        drawn = {"pretrained": {labels: [probabilities] for labels in fractions}, **baselines}
        return write_run(tmp_path / name, drawn, **facts)

    return make


def names(comparison):
    return [curve.name for curve in comparison.curves]


def test_runs_on_the_same_images_share_a_chart_and_a_baseline_of_the_same_numbers_is_there_once(run):
    (comparison,) = build_comparisons([run("nih/linear-a", RIGHT, method="moco"), run("nih/linear-b", ALMOST, method="simclr")])
    assert names(comparison) == ["MoCo · a", "SimCLR · b", "random initialisation", "raw pixels"]
    assert comparison.fractions == ["10pct", "100pct"]


def test_baselines_of_other_numbers_are_told_apart_by_their_run(run):
    other = {**BASELINES, "random": {"10pct": [FLAT], "100pct": [ALMOST]}}
    (comparison,) = build_comparisons(
        [run("nih/linear-a", RIGHT, method="moco"), run("nih/linear-b", ALMOST, method="simclr", baselines=other)]
    )
    assert names(comparison)[2:] == ["random initialisation (a)", "random initialisation (b)", "raw pixels"]


def test_of_a_baseline_that_runs_share_the_one_with_more_fractions_is_kept(run):
    few = {"random": {"100pct": [FLAT]}}
    (comparison,) = build_comparisons(
        [run("nih/linear-a", RIGHT, method="moco", baselines=few), run("nih/linear-b", ALMOST, method="simclr")]
    )
    assert names(comparison)[2:] == ["random initialisation", "raw pixels"]
    assert set(comparison.curves[2].rows) == {"10pct", "100pct"}


def test_an_encoder_is_best_only_where_it_is_higher_in_every_resample(run):
    (comparison,) = build_comparisons([run("nih/linear-a", FLAT, method="moco"), run("nih/linear-b", RIGHT, method="simclr")])
    best = comparison.best("100pct")
    assert best is not None and best.name == "SimCLR · b"
    gains = {other.name: gain for other, gain in comparison.rankings["100pct"][0].differences}
    assert (gains["MoCo · a"].gain, gains["MoCo · a"].low) == (0.5, 0.5)
    assert (gains["raw pixels"].gain, gains["raw pixels"].low) == (1, 1)
    (comparison,) = build_comparisons([run("nih/linear-c", ALMOST, method="moco"), run("nih/linear-d", RIGHT, method="simclr")])
    ranking = comparison.rankings["100pct"][0]
    assert ranking.highest.name == "SimCLR · d" and comparison.best("100pct") is None, "resamples without that pair show no difference"


def test_encoders_are_compared_with_each_other_where_a_baseline_leads(run):
    floor = {"pixels": {"10pct": [RIGHT], "100pct": [RIGHT]}}
    runs = [run("nih/linear-a", 1 - RIGHT, method="moco", baselines=floor), run("nih/linear-b", FLAT, method="simclr", baselines=floor)]
    (comparison,) = build_comparisons(runs)
    firsts = [(ranking.highest.name, [other.name for other, _ in ranking.differences]) for ranking in comparison.rankings["10pct"]]
    assert firsts == [("raw pixels", ["MoCo · a", "SimCLR · b"]), ("SimCLR · b", ["MoCo · a"])]


def test_an_encoder_that_has_seen_test_images_is_never_best(run):
    leaked = with_changes(run("nih/linear-a", RIGHT, method="moco"), {"leak_check": {"leaked": 1}})
    (comparison,) = build_comparisons([leaked, run("nih/linear-b", FLAT, method="simclr")])
    assert comparison.rankings["100pct"][0].highest.name == "MoCo · a" and comparison.best("100pct") is None


def test_other_test_patients_stand_apart_and_are_ranked_by_nothing(run):
    others = np.array([f"other-{patient}" for patient in PATIENTS])
    first, second = build_comparisons([run("a/linear-a", FLAT, baselines={}), run("b/linear-b", RIGHT, baselines={}, patients=others)])
    assert (first.data, second.data) == ("nih (finding), test set 1", "nih (finding), test set 2")
    assert not first.rankings and not second.rankings


def test_a_run_without_predictions_stands_alone(run):
    whole, bare = run("nih/linear-a", RIGHT, method="moco"), run("nih/linear-b", FLAT, method="simclr")
    comparisons = build_comparisons([whole, replace(bare, predictions=None)])
    assert [len(comparison.curves) for comparison in comparisons] == [3, 3]
    assert comparisons[0].rankings and not comparisons[1].rankings


def test_an_encoder_has_one_number_on_all_data_sets_and_in_all_modes(run):
    runs = [
        run("nih/linear-b", FLAT, method="simclr"),
        run("nih/linear-a", RIGHT, method="moco"),
        run("nih/full-a", RIGHT, method="moco", mode="full"),
        run("pneumonia/linear-a", RIGHT, method="moco", data="pneumonia", patients=np.array(list("stuvwxyz"))),
    ]
    comparisons = build_comparisons(runs)
    assert [(comparison.data, comparison.mode) for comparison in comparisons] == [
        ("nih (finding)", "linear"),
        ("nih (finding)", "full"),
        ("pneumonia (finding)", "linear"),
    ]
    assert {(curve.name, curve.number) for comparison in comparisons for curve in comparison.curves if curve.number is not None} == {
        ("SimCLR · b", 0),
        ("MoCo · a", 1),
    }


def test_two_encoders_of_one_method_and_one_name_are_told_apart_by_their_folders(run):
    first, second = run("old/linear", RIGHT), with_changes(run("new/linear", FLAT), {"encoder": {"weights_sha256": "other"}})
    (comparison,) = build_comparisons([first, second])
    assert names(comparison)[:2] == ["pNNCLR · old/linear", "pNNCLR · new/linear"]


def test_the_raw_pixels_of_the_full_mode_are_drawn_with_it_although_they_are_linear(run):
    full = run("nih/full-a", RIGHT, mode="full", baselines={"random": {"100pct": [FLAT]}, "pixels": {"100pct": [FLAT]}})
    rows = [{**row, "mode": "linear" if row["init"] == "pixels" else "full"} for row in full.document.to_dict()["summary"]]
    (comparison,) = build_comparisons([with_changes(full, {"summary": rows})])
    assert names(comparison)[1:] == ["random initialisation", "raw pixels"] and comparison.mode == "full"


def test_a_folder_that_was_named_by_the_time_gives_no_name_to_its_encoder(run):
    other = {**BASELINES, "random": {"10pct": [FLAT], "100pct": [ALMOST]}}
    first = run("runs/20261128-194323-finetune-10pct-100pct", RIGHT, method="moco")
    second = run("runs/20261128-195001-finetune-10pct-100pct", FLAT, method="simclr", baselines=other)
    (comparison,) = build_comparisons([first, second])
    assert names(comparison) == ["MoCo", "SimCLR", "random initialisation (MoCo)", "random initialisation (SimCLR)", "raw pixels"]
    assert first.title == "nih (finding) · MoCo"
    assert run("nih/linear-a", RIGHT, method="moco").title.endswith(" · MoCo · linear-a")


def test_two_unnamed_encoders_of_one_method_are_numbered_and_one_that_was_fine_tuned_twice_is_one(run):
    first = run("runs/20261128-194323-finetune-10pct", RIGHT, fractions=("10pct",))
    again = run("runs/20261128-195001-finetune-100pct", RIGHT, fractions=("100pct",))
    other = with_changes(run("runs/20261128-200000-finetune-10pct", FLAT, fractions=("10pct",)), {"encoder": {"weights_sha256": "other"}})
    (comparison,) = build_comparisons([first, again])
    assert names(comparison)[:2] == ["pNNCLR", "pNNCLR (100%)"]
    assert "1 encoder (pNNCLR)" in render([first, again])
    (comparison,) = build_comparisons([first, other])
    assert names(comparison)[:2] == ["pNNCLR · encoder 1", "pNNCLR · encoder 2"]
