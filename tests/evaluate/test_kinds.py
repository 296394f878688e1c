"""Studies of several labels, of ordered classes, and by neighbours, from the table of labels to the document."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from studies import a_request, hexed

from medssl.data.split import parse_labels
from medssl.errors import UserError
from medssl.evaluate import experiment
from medssl.evaluate.experiment import Experiment, run_experiment
from medssl.evaluate.label_draws import plan_draws
from medssl.evaluate.results import Results
from medssl.evaluate.task import define_task

PATIENTS = 60


def of_each_image(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 2)


def two_findings(**more: object) -> Experiment:
    """ "bright" is in the images, "other" is not, and of every fifth image "other" is not known."""
    number = np.arange(PATIENTS)
    other = of_each_image((number // 2 % 3 == 0).astype(int).astype(str))
    other[::5] = ""
    bright = of_each_image((number % 2).astype(str))
    return a_request(findings={"bright": bright, "other": other}, **more)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def multilabel() -> Results:
    return run_experiment(two_findings(labels="30pct,100pct")).results


def row_of(results: Results, labels: str = "100pct", init: str = "pretrained") -> dict:
    return next(row for row in results.document.to_dict()["summary"] if row["labels"] == labels and row["init"] == init)


def test_several_labels_are_drawn_by_patients_and_counted_where_they_are_present(multilabel: Results) -> None:
    assert (
        multilabel.document.to_dict()["task"]["kind"] == "multilabel" and multilabel.document.to_dict()["task"]["column"] == "bright, other"
    )
    # of the test patients 0 to 19 ten are bright; 0, 1, 6, 7, 12, 13, 18 and 19 have the other finding: images 0 to 3, 12 to 15, 24 to 27
    # and 36 to 39, of which 0, 15 and 25 are not known
    assert [c["test"] for c in multilabel.document.to_dict()["task"]["classes"]] == [20, 13]
    drawn = multilabel.splits.draws
    assert [len(keys) for keys in drawn["30pct"]] == [24, 24] and set(drawn["30pct"][0]) < set(drawn["100pct"][0])
    owner = {hexed("key", i): i // 2 for i in range(120)}
    assert all(len({owner[key] for key in keys}) == 12 for keys in drawn["30pct"])


def test_each_label_has_its_own_row_and_the_score_is_their_mean(multilabel: Results) -> None:
    for row in multilabel.document.to_dict()["summary"]:
        per_class = {c["name"]: c["auroc"] for c in row["per_class"]}
        assert list(per_class) == ["bright", "other"]
        assert row["auroc"]["mean"] == pytest.approx(np.mean([c["mean"] for c in per_class.values()]), abs=1e-12)
        assert all(c["low"] <= c["mean"] <= c["high"] for c in per_class.values())
    ours = {c["name"]: c["auroc"] for c in row_of(multilabel)["per_class"]}
    assert ours["bright"]["low"] > 0.9 and ours["other"]["low"] < 0.5 < ours["other"]["high"]


def test_predictions_hold_the_truth_of_each_label_and_reproduce_its_score(multilabel: Results) -> None:
    table = multilabel.predictions
    assert {"true_bright", "true_other", "prob_bright", "prob_other"} <= set(table.columns) and "y_true" not in table.columns
    for cell in multilabel.document.to_dict()["cells"]:
        mine = table[(table["labels"] == cell["labels"]) & (table["init"] == cell["init"]) & (table["draw"] == cell["draw"])]
        known = mine[mine["true_other"] >= 0]
        assert len(known) == 32, "of 40 test images every fifth is not known"
        scores = [
            roc_auc_score(mine["true_bright"], mine["prob_bright"]),
            roc_auc_score(known["true_other"], known["prob_other"]),
        ]
        assert cell["test"]["auroc"] == pytest.approx(np.mean(scores), abs=1e-12)


def test_several_labels_have_no_delong_test_no_kappa_and_a_document_of_strict_json(multilabel: Results) -> None:
    assert all(row["p_delong"] is None for row in multilabel.document.to_dict()["paired"])
    assert "quadratic_kappa" not in row_of(multilabel)
    json.dumps(multilabel.document.to_dict(), allow_nan=False)
    assert all(np.isfinite(value) for value in multilabel.scores().values())


@pytest.mark.parametrize("mode", ["knn", "full"])
def test_several_labels_go_through_every_mode(mode: str) -> None:
    results = run_experiment(two_findings(labels="100pct", mode=mode, draws=1, steps=6, balance=True)).results
    assert [row["mode"] for row in results.document.to_dict()["summary"]] == [mode, mode, "linear" if mode == "full" else mode]
    probabilities = results.predictions[["prob_bright", "prob_other"]].to_numpy()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert np.abs(probabilities.sum(1) - 1).max() > 0.01, "each label for itself"


@pytest.mark.slow
def test_shots_of_several_labels_are_one_row_a_start_though_their_patients_differ_from_draw_to_draw() -> None:
    results = run_experiment(two_findings(labels="4shot,3shot", draws=4)).results
    rows = [(row["labels"], row["init"]) for row in results.document.to_dict()["summary"]]
    assert sorted(rows) == [(labels, init) for labels in ("3shot", "4shot") for init in ("pixels", "pretrained", "random")]
    counts = [row["n_patients"] for row in results.document.to_dict()["summary"]]
    assert any(count["low"] < count["high"] for count in counts), "the draws have as many patients: nothing is shown"
    assert len({cell["fraction"] for cell in results.document.to_dict()["cells"]}) == 2


def graded(ordered: bool = True) -> Experiment:
    """Three grades, of which the images show whether it is the first."""
    grade = np.where(np.arange(PATIENTS) % 2 == 0, 0, 1 + np.arange(PATIENTS) // 2 % 2)
    return a_request(findings={"grade": of_each_image(grade.astype(str))}, labels="100pct", ordered=ordered)


def test_classes_with_an_order_are_scored_as_classes_and_by_a_kappa_and_the_tracker_hears_of_it() -> None:
    ordered, plain = run_experiment(graded()).results, run_experiment(graded(ordered=False)).results
    assert (ordered.document.to_dict()["task"]["kind"], plain.document.to_dict()["task"]["kind"]) == ("ordinal", "multiclass")
    kappa = row_of(ordered)["quadratic_kappa"]
    mine = ordered.predictions[ordered.predictions["init"] == "pretrained"]
    called = np.argmax([mine["prob_0"], mine["prob_1"], mine["prob_2"]], axis=0)
    assert kappa["mean"] == pytest.approx(cohen_kappa_score(mine["y_true"].astype(int), called, weights="quadratic"), abs=1e-12)
    assert kappa["low"] <= kappa["mean"] <= kappa["high"]
    assert ordered.scores()["linear.100pct.pretrained.quadratic_kappa"] == kappa["mean"]
    assert row_of(ordered)["auroc"] == row_of(plain)["auroc"] and "quadratic_kappa" not in row_of(plain)
    assert [c["name"] for c in row_of(ordered)["per_class"]] == ["0", "1", "2"]


def test_two_classes_have_no_order_and_no_row_for_each() -> None:
    results = run_experiment(a_request(ordered=True, labels="100pct")).results
    assert results.document.to_dict()["task"]["kind"] == "multiclass" and row_of(results)["per_class"] == []


def test_neighbours_vote_on_features_that_are_computed_once_and_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    extract = experiment.extract_pooled
    monkeypatch.setattr(experiment, "extract_pooled", lambda network, *rest: calls.append(1) or extract(network, *rest))
    monkeypatch.setattr(experiment, "fit_probe", None)
    monkeypatch.setattr(experiment, "fit_full", None)
    findings = run_experiment(a_request(mode="knn", neighbours=5))
    assert len(calls) == 4, "the encoder, a random one for each of two draws, the pixels"
    assert {cell["mode"] for cell in findings.results.document.to_dict()["cells"]} == {"knn"} and findings.exported_fit.tensors == {}
    assert row_of(findings.results)["auroc"]["low"] > 0.9
    random = row_of(findings.results, init="random")["auroc"]
    assert random["low"] < 0.5 < random["high"]


@pytest.mark.parametrize("mode", ["linear", "knn"])
def test_labels_that_are_shuffled_among_patients_give_chance_within_the_interval(mode: str) -> None:
    number = np.random.default_rng(3).permutation(PATIENTS)
    shuffled = of_each_image(np.where(number % 2, "sick", "normal"))
    results = run_experiment(a_request(signal=60, mode=mode, labels="100pct", findings={"finding": shuffled})).results
    score = row_of(results)["auroc"]
    assert score["low"] < 0.5 < score["high"]


def test_a_class_with_one_image_is_refused_by_name_and_number() -> None:
    labels = of_each_image(np.where(np.arange(PATIENTS) % 2, "sick", "normal")).astype(object)
    for place, side in ((0, "training"), (119, "test")):
        rare = labels.copy()
        rare[place] = "torn"
        with pytest.raises(UserError, match=f"No {side} image has the class 'torn' of 'finding', which 1 others have"):
            a_request(findings={"finding": rare})


def test_a_label_that_is_present_once_is_refused_by_name_and_number() -> None:
    single = np.full(120, "0")
    single[0] = "1"
    bright = of_each_image((np.arange(PATIENTS) % 2).astype(str))
    with pytest.raises(UserError, match="All 80 training labels in 'single' are '0'"):
        a_request(findings={"bright": bright, "single": single})
    single[119] = "1"
    request = a_request(findings={"bright": bright, "single": single})
    with pytest.raises(UserError, match="of 'single' there are 1 labelled training patients"):
        plan_draws(request.task, parse_labels("2shot"), 1, 0)
    assert np.isfinite(row_of(run_experiment(replace(request, fractions=parse_labels("20pct"))).results, "20pct")["auroc"]["mean"])


def test_a_column_of_other_words_cannot_stand_beside_labels() -> None:
    request = two_findings()
    table = request.table.assign(**{"label:bright": "yes"})
    with pytest.raises(UserError, match="All 80 training labels"):
        define_task(table, ["bright", "other"], np.where(np.arange(120) < 40, "test", "train"))
