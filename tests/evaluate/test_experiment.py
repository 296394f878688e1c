"""The study: draws, counts, files, and the guards that make its number one to believe."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from studies import Corner, Faint, Noise, a_request, both_ends, hexed

from medssl.data.split import parse_labels
from medssl.errors import UserError
from medssl.evaluate import experiment
from medssl.evaluate import label_draws as plans
from medssl.evaluate.experiment import Experiment, run_experiment
from medssl.evaluate.label_draws import plan_draws
from medssl.evaluate.leakage import refuse_leak
from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.results import Results, _p
from medssl.evaluate.schema import LeakCheck


@pytest.fixture(scope="module")
def request_() -> Experiment:
    return a_request()


@pytest.fixture(scope="module")
def results(request_: Experiment) -> Results:
    return run_experiment(request_).results


def summary_row(results: Results, **wanted: object) -> dict:
    return next(row for row in results.document.to_dict()["summary"] if wanted.items() <= row.items())


def test_all_labels_are_one_draw_of_a_frozen_encoder_and_one_for_each_random_initialisation(results: Results) -> None:
    cells = [(c["labels"], c["init"], c["draw"]) for c in results.document.to_dict()["cells"]]
    expected = [("20pct", init, draw) for init in ("pretrained", "random", "pixels") for draw in (0, 1)]
    expected += [("100pct", init, draw) for init, draw in (("pretrained", 0), ("random", 0), ("random", 1), ("pixels", 0))]
    assert cells == expected
    assert summary_row(results, labels="100pct", init="random")["draws"] == 2
    assert summary_row(results, labels="100pct", init="pretrained")["draws"] == 1


def test_small_fractions_are_drawn_five_times_and_larger_ones_three_times() -> None:
    request = a_request()  # 40 training patients: one of each class is 5 percent of them, three are 15
    draws = plan_draws(request.task, parse_labels("1shot,3shot,10pct,11pct,100pct"), 5, seed=0)
    counts = {name: sum(str(draw.wanted) == name for draw in draws) for name in ("1shot", "3shot", "10pct", "11pct", "100pct")}
    assert counts == {"1shot": 5, "3shot": 3, "10pct": 5, "11pct": 3, "100pct": 3}
    assert len(plan_draws(request.task, parse_labels("100pct"), 1, seed=0)) == 1


def test_labels_and_patients_are_counted_from_what_was_fitted(results: Results) -> None:
    # 40 training patients with 2 images each: 20 percent are 8 patients, 4 of each class
    for cell in results.document.to_dict()["cells"]:
        assert (cell["n_labels"], cell["n_patients"]) == ((16, 8) if cell["labels"] == "20pct" else (80, 40))
        assert cell["fraction"] == (0.2 if cell["labels"] == "20pct" else 1.0)


def test_the_good_encoder_wins_and_the_interval_of_its_gain_says_so(results: Results) -> None:
    assert summary_row(results, labels="100pct", init="pretrained")["auroc"]["mean"] > 0.95
    random = summary_row(results, labels="100pct", init="random")["auroc"]
    assert random["low"] < 0.5 < random["high"]
    gain = next(row for row in results.document.to_dict()["paired"] if row["versus"] == "random" and row["labels"] == "100pct")
    assert 0 < gain["low"] < gain["auroc_gain"] < gain["high"]
    assert {row["versus"] for row in results.document.to_dict()["paired"]} == {"random", "pixels"}


def test_the_delong_test_agrees_with_the_interval_and_needs_two_classes(results: Results) -> None:
    p = {(row["labels"], row["versus"]): row["p_delong"] for row in results.document.to_dict()["paired"]}
    assert p["100pct", "random"] < 0.001
    for row in results.document.to_dict()["paired"]:
        assert (row["p_delong"] < 0.01) <= (row["low"] > 0 or row["high"] < 0), row
    task = replace(a_request().task, classes=("normal", "sick", "very sick"))
    assert _p(task, [], []) is None


@pytest.fixture(scope="module")
def against_faint() -> Results:
    """The reference is above chance, and the encoder far above the reference."""
    return run_experiment(replace(a_request(), random=lambda _: Faint())).results


def test_labels_saved_is_the_first_amount_that_is_not_inferior_to_the_random_start_with_all_labels(against_faint: Results) -> None:
    document = against_faint.document
    saved, full = document.labels_saved, next(row for row in document.paired if (row.versus, row.labels) == ("random", "100pct"))
    assert saved is not None and not saved.at_chance
    assert (saved.reached, saved.at, saved.versus, saved.margin) == ("20pct", "100pct", "random", 0.01)
    assert saved.auroc.model_dump() == summary_row(against_faint, labels="100pct", init="random")["auroc"]
    assert saved.by_fraction[1].model_dump() == {key: getattr(full, key) for key in ("fraction", "labels", "auroc_gain", "low", "high")}
    gain = summary_row(against_faint, labels="20pct", init="pretrained")["auroc"]["mean"] - saved.auroc.mean
    assert saved.by_fraction[0].auroc_gain == pytest.approx(gain, abs=1e-12) and gain > 0


def test_an_encoder_that_never_gets_there_has_saved_no_labels() -> None:
    request = a_request()
    swapped = run_experiment(replace(request, inits={"pretrained": Noise()}, random=lambda _: Corner())).results.document.labels_saved
    assert swapped is not None and swapped.reached is None and all(both_ends(row)[1] < 0 for row in swapped.by_fraction)
    assert run_experiment(a_request(labels="100pct")).results.document.labels_saved is None


def test_each_draw_has_its_own_random_initialisation_at_every_fraction(results: Results) -> None:
    scores = {(c["labels"], c["draw"]): c["test"]["brier"] for c in results.document.to_dict()["cells"] if c["init"] == "random"}
    assert len(set(scores.values())) == 4, "20pct and 100pct, two draws each"
    asked: list[int] = []
    request = replace(a_request(draws=4, labels="10pct,100pct"), random=lambda draw: asked.append(draw) or Noise())
    rows = [c for c in run_experiment(request).results.document.to_dict()["cells"] if c["init"] == "random"]
    assert asked == [0, 1, 2, 3] and [(c["labels"], c["draw"]) for c in rows][-3:] == [("100pct", 0), ("100pct", 1), ("100pct", 2)]


def test_shuffled_labels_give_chance_within_the_interval() -> None:
    score = summary_row(run_experiment(a_request(signal=0, labels="100pct")).results, init="pretrained")["auroc"]
    assert score["low"] < 0.5 < score["high"]


def test_predictions_and_splits_reproduce_the_document(results: Results, request_: Experiment, tmp_path: Path) -> None:
    results.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.parquet", "results.json", "splits.json"]
    document = json.loads((tmp_path / "results.json").read_text())
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    for cell in document["cells"]:
        mine = table[(table["labels"] == cell["labels"]) & (table["init"] == cell["init"]) & (table["draw"] == cell["draw"])]
        assert len(mine) == 40
        assert cell["test"]["auroc"] == pytest.approx(roc_auc_score(mine["y_true"] == "sick", mine["prob_sick"]), abs=1e-12)
    splits = json.loads((tmp_path / "splits.json").read_text())
    assert set(table["key"]) == set(splits["test"])
    drawn = splits["draws"]
    assert [len(keys) for keys in drawn["20pct"]] == [16, 16] and [len(keys) for keys in drawn["100pct"]] == [80, 80]
    assert set(drawn["20pct"][1]) < set(drawn["100pct"][1]) and set(drawn["20pct"][0]) != set(drawn["20pct"][1])
    owner = dict(zip(request_.table["key"], request_.table["patient"], strict=True))
    assert not {owner[key] for key in splits["test"]} & {owner[key] for key in drawn["100pct"][0]}
    content = {key: value for key, value in splits.items() if key != "sha256"}
    assert hashlib.sha256((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()).hexdigest() == splits["sha256"]


def test_the_same_request_gives_the_same_results(results: Results) -> None:
    again = run_experiment(a_request()).results
    assert again.document == results.document and again.splits == results.splits
    pd.testing.assert_frame_equal(again.predictions, results.predictions)


def test_facts_and_counts_stand_in_the_document(results: Results) -> None:
    assert (results.document.data.name, results.document.encoder.method) == ("made up", {"name": "pnnclr"})
    assert results.document.to_dict()["task"]["classes"] == [
        {"name": "normal", "pool": 40, "test": 20},
        {"name": "sick", "pool": 40, "test": 20},
    ]
    assert results.document.to_dict()["task"]["test"] == {"n_labels": 40, "n_patients": 20}
    flat = results.scores()
    assert flat["linear.20pct.pretrained.auroc"] == summary_row(results, labels="20pct", init="pretrained")["auroc"]["mean"]
    assert all(np.isfinite(value) for value in flat.values())


def test_features_are_computed_once_for_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    extract = experiment.extract_pooled
    monkeypatch.setattr(experiment, "extract_pooled", lambda network, *rest: calls.append(len(rest[2])) or extract(network, *rest))
    run_experiment(a_request(labels="10pct,20pct", draws=3))
    # the encoder, three random ones, the pixels: 40 images of the test, and not the training images that no draw needs
    assert len(calls) == 5 and max(calls) < 120
    assert calls[1] == calls[2] == calls[3] == 40 + 16, "a random initialisation sees the images of its own draw"


def test_progress_ends_at_its_total() -> None:
    for mode in ("linear", "full"):
        heard: list[tuple[int, int]] = []
        run_experiment(a_request(mode=mode), lambda done, total, heard=heard: heard.append((done, total)))
        assert heard[-1][0] == heard[-1][1]
        assert [done for done, _ in heard] == list(range(1, len(heard) + 1))


def test_the_full_mode_trains_every_draw_at_every_fraction_and_keeps_the_pixels_beside_it() -> None:
    document = run_experiment(a_request(mode="full")).results.document.to_dict()
    cells = [(c["mode"], c["labels"], c["init"], c["draw"]) for c in document["cells"]]
    assert [c for c in cells if c[0] == "full" and c[1] == "100pct"] == [
        ("full", "100pct", init, d) for init in ("pretrained", "random") for d in (0, 1)
    ]
    assert ("linear", "100pct", "pixels", 0) in cells and ("linear", "20pct", "pixels", 1) in cells
    assert [(r["mode"], r["labels"], r["versus"]) for r in document["paired"]] == [
        ("full", labels, versus) for labels in ("20pct", "100pct") for versus in ("random", "pixels")
    ]


def test_shots_are_patients_of_each_class() -> None:
    request = a_request(labels="3shot", draws=1)
    (cell,) = [c for c in run_experiment(request).results.document.to_dict()["cells"] if c["init"] == "pretrained"]
    assert (cell["n_patients"], cell["n_labels"], cell["fraction"]) == (6, 12, pytest.approx(6 / 40))


def planted(rows_of: Callable[[Any, int], np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws as `rows_of` (the fraction, the size of the pool) gives them."""
    monkeypatch.setattr(plans, "draw_by_class", lambda patients, labels, wanted, draw, seed: rows_of(wanted.share, len(patients)))
    request = a_request()
    plan_draws(request.task, request.fractions, 2, seed=0)


def test_a_draw_that_uses_all_labels_or_half_a_patient_or_is_not_nested_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="40 patients instead of 8"):
        planted(lambda _, pool: np.arange(pool), monkeypatch)
    with pytest.raises(AssertionError, match="cut in two"):
        planted(lambda *_: np.arange(1, 17), monkeypatch)
    with pytest.raises(AssertionError, match="outside a larger"):
        planted(lambda share, pool: np.arange(16) if share < 1 else np.arange(2, pool), monkeypatch)


def test_a_number_of_labels_that_differs_from_the_draw_is_caught() -> None:
    request = a_request()
    (draw, *_) = plan_draws(request.task, request.fractions, 1, seed=0)
    with pytest.raises(AssertionError, match="80 labels were used where 16 were drawn"):
        experiment._cell(request, draw, "linear", "pretrained", CellFit(np.zeros((40, 2)), 1.0, labels=80))


@pytest.mark.fault("L4")
def test_a_test_patient_or_a_test_image_seen_in_pretraining_is_refused() -> None:
    table = a_request().table.iloc[:4]
    clean = {"pretraining": {"patients": [hexed("another")[:16]], "pixels": [hexed("other")[:16]]}}
    assert refuse_leak(clean, table) == LeakCheck(patients=2, images=4, leaked=0)
    patient = {"pretraining": {"patients": [hexed("patient", 1)[:16]], "pixels": []}}
    with pytest.raises(
        UserError, match=r"^2 of 4 test images were seen in pretraining: 1 patients are the same, 0 images.*data\.leaks=allow"
    ):
        refuse_leak(patient, table)
    allowed = refuse_leak(patient, table, allowed=True)
    assert allowed is not None and allowed.leaked == 2
    pixels = {"pretraining": {"patients": [], "pixels": [hexed("pixels", i)[:16] for i in range(3)]}}
    with pytest.raises(UserError, match=r"^3 of 4 .* 0 patients are the same, 3 images have the same pixels"):
        refuse_leak(pixels, table)


@pytest.mark.parametrize(
    ("method", "labels"), [({}, ""), ({"method": {"uses_labels": False}}, ""), ({"method": {"uses_labels": True}}, ", with their labels")]
)
def test_the_refusal_says_whether_pretraining_saw_the_labels_too(method: dict[str, Any], labels: str) -> None:
    table = pd.DataFrame({"patient": [hexed("p1")], "pixel_hash": [hexed(0)]})
    seen = {"pretraining": {"patients": [hexed("p1")[:16]], "pixels": []}}
    with pytest.raises(UserError, match=f"1 of 1 test images were seen in pretraining{labels}: 1 patients"):
        refuse_leak({**seen, **method}, table)
