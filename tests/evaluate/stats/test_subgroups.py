"""Scores by subgroup, and whether the features give the hospital away: against hand counts and planted signals."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies import both_ends

from medssl.evaluate.cell import Cell
from medssl.evaluate.results import summarise_cells
from medssl.evaluate.schema import RunDescription, Score
from medssl.evaluate.stats import subgroups as module
from medssl.evaluate.stats.metrics import METRICS, score
from medssl.evaluate.stats.subgroups import age_band, groups_of, site_probe, subgroups
from medssl.evaluate.task import Kind, Task

FAULTS = {
    "the bootstrap draws images": (
        "evaluate/stats/subgroups.py",
        "resample_scores(y, draws, Resamples(patients, _RESAMPLES, seed), metrics)",
        "resample_scores(y, draws, Resamples(np.arange(len(y)), _RESAMPLES, seed), metrics)",
    ),
}


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("057Y", "40 to 59"),
        ("006M", "under 18"),
        ("240M", "18 to 39"),  # twenty years
        ("003W", "under 18"),
        ("010D", "under 18"),
        ("57", "40 to 59"),
        ("57.0", "40 to 59"),
        ("17", "under 18"),
        ("18", "18 to 39"),
        ("39.9", "18 to 39"),
        ("40", "40 to 59"),
        ("60", "60 to 79"),
        ("79y", "60 to 79"),
        ("80", "80 and over"),
        ("0", "under 18"),
        ("", ""),
        ("abc", ""),
        ("Y", ""),
        ("-5", ""),
        ("-05Y", ""),
        ("nan", ""),
        ("inf", ""),
        ("200", ""),
    ],
)
def test_ages_fall_into_bands(age: str, band: str) -> None:
    assert age_band(age) == band


def test_only_columns_that_divide_the_images_make_groups() -> None:
    table = pd.DataFrame(
        {
            "site": ["a", "b", "", "a"],
            "extra:sex": ["F", "F", "", "F"],  # one group and an unknown: nothing to compare
            "extra:age": ["057Y", "058Y", "", "030Y"],
            "extra:view": ["PA", "AP", "AP", "PA"],
            "extra:kvp": ["100", "120", "80", "90"],
        }
    )
    found = groups_of(table)
    assert sorted(found) == ["age", "site", "view"]
    assert found["age"].tolist() == ["40 to 59", "40 to 59", "", "18 to 39"]
    assert groups_of(table.loc[:, ["extra:sex"]]) == {}


def a_task(y: np.ndarray, patients: np.ndarray, classes: int = 2, kind: Kind = "multiclass") -> Task:
    rows = np.arange(len(y))
    return Task("finding", tuple("abcd"[:classes]), y, patients, rows, rows, 0, kind)


def made_up(patients: int = 90, images: int = 2, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    y = np.repeat(generator.integers(0, classes, patients), images)
    logits = generator.normal(size=(len(y), classes)) + np.eye(classes)[y]
    who = np.repeat([f"p{i}" for i in range(patients)], images)
    return y, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), who


def rows_of(task: Task, values: np.ndarray, draws: list[np.ndarray]) -> dict[str, dict[str, Any]]:
    cells = [Cell(1.0, "100pct", i, "linear", "pretrained", 0, 0, prob) for i, prob in enumerate(draws)]
    return {row.value: row.model_dump() for row in subgroups(task, {"site": values}, cells, METRICS, seed=0, level=0.95)}


def test_images_patients_and_positives_are_counted_and_few_patients_are_marked() -> None:
    # a: 25 patients with two images, 10 sick; b: 25 patients, 4 sick, one too few; c: 19 patients, 9 sick, one too few
    sizes, sick = {"a": 25, "b": 25, "c": 19}, {"a": 10, "b": 4, "c": 9}
    values = np.repeat([site for site, n in sizes.items() for _ in range(n)], 2)
    y = np.repeat([int(i < sick[site]) for site, n in sizes.items() for i in range(n)], 2)
    who = np.repeat([f"{i}" for i in range(69)], 2)
    found = rows_of(a_task(y, who), values, [made_up(69)[1]])
    assert {site: (row["n_labels"], row["n_patients"], row["positives"], row["small"]) for site, row in found.items()} == {
        "a": (50, 25, 20, False),
        "b": (50, 25, 8, True),
        "c": (38, 19, 18, True),
    }


def test_a_subgroups_scores_are_the_scores_of_its_images_and_lie_in_their_intervals() -> None:
    y, prob, who = made_up()
    other = np.roll(prob, 1, axis=0) * 0.5 + prob * 0.5
    values = np.repeat(np.array(["north", "south", ""]), [60, 80, 40])
    found = rows_of(a_task(y, who), values, [prob, other])
    assert list(found) == ["south", "north"], "the largest first, and none for images without a site"
    for site, row in found.items():
        of = values == site
        for name in METRICS:
            mean = np.mean([score(y[of], p[of])[name] for p in (prob, other)])
            assert row[name]["mean"] == pytest.approx(mean, abs=1e-12)
            assert row[name]["low"] <= row[name]["mean"] <= row[name]["high"] or name == "ece", (site, name)


def test_a_patients_images_count_together_so_ten_copies_of_an_image_make_no_interval_narrower() -> None:
    y, prob, who = made_up(patients=30, images=1)
    once = rows_of(a_task(y, who), np.repeat(["a", "b"], 15), [prob])
    often = np.repeat(np.arange(30), 10)
    copies = rows_of(a_task(y[often], who[often]), np.repeat(["a", "b"], 150), [prob[often]])
    for site in "ab":
        for name in METRICS:
            assert copies[site][name] == pytest.approx(once[site][name], abs=1e-9), (site, name)


def test_of_more_than_two_classes_and_of_several_labels_there_are_no_positives() -> None:
    y, prob, who = made_up(classes=3)
    values = np.repeat(["a", "b"], 90)
    assert rows_of(a_task(y, who, 3), values, [prob])["a"]["positives"] is None
    several = np.stack([y == 1, y == 2], axis=1).astype(int)
    several[values == "a", 1] = -1
    found = rows_of(a_task(several, who, 2, "multilabel"), values, [prob[:, 1:]])
    assert found["a"]["small"] and not found["b"]["small"], "a label that nobody of a group knows"
    of = values == "a"
    alone = score((y[of] == 1).astype(int), np.stack([1 - prob[of, 1], prob[of, 1]], axis=1))
    assert found["a"]["auroc"]["mean"] == pytest.approx(alone["auroc"], abs=1e-12)
    assert found["a"]["accuracy"]["mean"] == pytest.approx(alone["accuracy"], abs=1e-12)


def test_a_group_without_a_class_has_null_scores_in_a_document_that_is_strict_json() -> None:
    y, prob, who = made_up()
    site = np.where(y == 1, "ill", "well")
    site[:10] = "well"
    table = pd.DataFrame({"key": [f"k{i}" for i in range(180)], "patient": who, "site": site, "extra:sex": np.repeat(["F", "M"], 90)})
    cell = Cell(1.0, "100pct", 0, "linear", "pretrained", 180, 90, prob)
    document = summarise_cells(a_task(y, who), table, [cell], {}, bootstraps=100, seed=0, description=RunDescription()).document.to_dict()
    json.dumps(document, allow_nan=False)
    rows = {(row["by"], row["value"]): row for row in document["subgroups"]}
    assert set(rows) == {("site", "ill"), ("site", "well"), ("sex", "F"), ("sex", "M")}
    ill = rows["site", "ill"]
    assert ill["auroc"] is None and ill["balanced_accuracy"] is None and ill["small"]
    of = site == "ill"
    assert ill["accuracy"]["mean"] == pytest.approx((prob[of].argmax(1) == 1).mean())
    assert (ill["labels"], ill["mode"], ill["init"]) == ("100pct", "linear", "pretrained")


def hospitals(signal: float, patients: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of two images of each patient: what belongs to the patient, and `signal` of the hospital."""
    generator = np.random.default_rng(4)
    site = np.arange(patients) % 3 == 0
    x = np.repeat(generator.normal(size=(patients, 8)), 2, axis=0) + 0.05 * generator.normal(size=(2 * patients, 8))
    x[:, 0] += signal * np.repeat(site, 2)
    return x.astype(np.float32), np.repeat(np.where(site, "B", "A"), 2), np.repeat([f"p{i}" for i in range(patients)], 2)


def test_a_planted_signal_of_the_hospital_is_found() -> None:
    found = site_probe(*hospitals(signal=6), seed=0, level=0.95)
    assert found is not None
    assert found.sites == {"A": 80, "B": 40} and found.chance == pytest.approx(2 / 3)
    assert isinstance(found.auroc, Score) and isinstance(found.accuracy, Score)
    assert found.auroc.mean > 0.98 and both_ends(found.accuracy)[0] > found.chance


def test_without_a_signal_the_interval_holds_chance_however_alike_the_images_of_a_patient_are() -> None:
    # were the images of a patient on both sides of a fold, the probe would know the site by the patient
    generator = np.random.default_rng(5)
    who = np.repeat([f"p{i}" for i in range(60)], 4)
    x = np.repeat(generator.normal(size=(60, 200)), 4, axis=0).astype(np.float32)
    found = site_probe(x, np.repeat(np.where(np.arange(60) % 2, "A", "B"), 4), who, seed=0, level=0.95)
    assert found is not None and found.auroc is not None
    low, high = both_ends(found.auroc)
    assert low < 0.5 < high and found.auroc.mean < 0.7


def test_sites_with_fewer_than_ten_patients_and_unknown_ones_are_left_out_and_one_alone_tells_nothing() -> None:
    x, site, who = hospitals(signal=6)
    assert site_probe(x, np.full(120, "A"), who, seed=0, level=0.95) is None
    few = np.where((site == "B") & (np.arange(120) >= 54), "", site)  # the first nine of B
    assert site_probe(x, few, who, seed=0, level=0.95) is None
    ten = np.where((site == "B") & (np.arange(120) >= 60), "", site)
    found = site_probe(x, ten, who, seed=0, level=0.95)
    assert found is not None and found.sites == {"A": 80, "B": 20}


def test_a_site_that_thinning_leaves_too_few_patients_of_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    x, site, who = hospitals(signal=6, patients=300)
    small = np.where((site == "B") & (np.arange(600) >= 60), "", site)  # ten patients beside two hundred
    monkeypatch.setattr(module, "_PROBE_ROWS", 30)
    assert site_probe(x, small, who, seed=0, level=0.95) is None
