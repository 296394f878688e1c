"""The page of several runs: foreign text stays text, nothing is requested, and it claims no more than the intervals do."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compared import FLAT, RIGHT, with_changes, write_run
from pages import Page

from medssl.compare.page import render, write_comparison
from medssl.evaluate.schema import ResultsDocument

SCRIPT = "<script>alert(1)</script>"
ATTRIBUTE = '"><img src=x onerror=alert(1)>'
SAVED = {"versus": "random", "mode": "linear", "at": "100pct", "auroc": {"mean": 0.7211, "low": 0.6, "high": 0.8}}
SAVED |= {"margin": 0.01, "at_chance": False, "by_fraction": []}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two encoders on nih, one of them on a second data set too."""
    root = tmp_path_factory.mktemp("runs")
    baselines = {"random": {"10pct": [FLAT], "100pct": [FLAT]}}
    others = np.array(list("stuvwxyz"))
    plan: list[tuple[str, Any, dict[str, Any]]] = [
        ("nih/linear-a", RIGHT, {"method": "moco"}),
        ("nih/linear-b", FLAT, {"method": "simclr"}),
        ("lung/linear-b", FLAT, {"method": "simclr", "data": "lung", "patients": others}),
    ]
    return [write_run(root / name, {"pretrained": {"10pct": [prob], "100pct": [prob]}, **baselines}, **facts) for name, prob, facts in plan]


def test_three_sentences_say_what_was_compared_and_what_was_found(runs):
    shown = " ".join(Page(render(runs)).shown.split())
    assert "3 runs of 2 encoders (MoCo · a and SimCLR · b) on 2 data sets (nih (finding) and lung (finding)) are compared." in shown
    assert (
        "Each classifier (linear probe) was trained with 10% and 100% of the labels and scored once on test images that neither its"
        in shown
    )
    assert "8 images of 6 patients in nih (finding) and 8 images of 6 patients in lung (finding)." in shown
    assert (
        "With 10% of the labels these are better than all others: MoCo · a by linear probe in nih (finding); "
        "in 1 of 2 charts the intervals do" in shown
    )


def test_best_is_marked_where_the_interval_says_so_and_nowhere_else(runs):
    page = Page(render(runs))
    assert sum(attributes.get("class") == "best" for _, attributes in page.elements) == 2, "both fractions of nih, none of lung"
    differences = page.shown[page.shown.rindex("Differences with intervals") : page.shown.rindex("How to read this page")]
    assert differences.count("+0.500 to +0.500") == 4 and differences.count("better") == 4 and differences.count("inconclusive") == 2


def test_the_page_warns_that_charts_of_other_test_images_must_not_be_ranked(runs):
    warning = "Charts of different data sets are not on the same test images"
    assert warning in Page(render(runs)).shown
    assert warning not in Page(render(runs[:2])).shown


def test_a_leak_and_missing_predictions_are_named(runs):
    leaked, bare = with_changes(runs[0], {"leak_check": {"leaked": 3}}), replace(runs[1], predictions=None)
    shown = Page(render([leaked, bare, runs[2]])).shown
    assert "linear-a was tested on 3 images that its pretraining had seen: its scores are too good." in shown
    assert "linear-b holds no predictions.parquet" in shown and "neither its pretraining" not in shown
    several = with_changes(bare, {"task": {"kind": "multilabel"}})
    assert "linear-b has a task of several labels" in Page(render([leaked, several])).shown


def test_foreign_text_is_shown_and_never_run(runs):
    hostile = []
    for i, run in enumerate(runs):
        parts = {
            "data": {"name": SCRIPT + run.document.data.name, "fingerprint": ATTRIBUTE},
            "encoder": {"method": {"title": f"{{{{ 7 * 7 }}}} $x^2$-->{SCRIPT}"}},
            "run": {"command": ATTRIBUTE},
            "labels_saved": {**SAVED, "mode": SCRIPT, "reached": SCRIPT},
            "summary": [{**row, "labels": row["labels"].replace("100pct", SCRIPT)} for row in run.document.to_dict()["summary"]],
        }
        hostile.append(with_changes(run, parts, name=f"{SCRIPT}{i}", parent=ATTRIBUTE, predictions=None))
    page = Page(render(hostile))
    assert not {"script", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }} $x^2$-->" in page.shown and f"{SCRIPT}0" in page.shown


def test_the_page_requests_nothing_and_its_policy_forbids_it(runs):
    text = render(runs)
    page = Page(text)
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not re.search(r"https?:|//[a-z]|@import", text)
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))


def test_ids_are_unique_and_every_reference_has_its_target(runs):
    elements = Page(render(runs)).elements
    ids = [attributes["id"] for tag, attributes in elements if "id" in attributes and tag in {"path", "clippath", "clipPath", "h2", "h3"}]
    assert len(ids) == len(set(ids))
    used = [target[1:] for _, attributes in elements if (target := attributes.get("xlink:href"))]
    used += [attributes["aria-labelledby"] for _, attributes in elements if "aria-labelledby" in attributes]
    assert used and set(used) <= set(ids)


def test_no_colour_of_a_chart_is_left_that_would_not_follow_light_and_dark(runs):
    for svg in re.findall(r"<svg.*?</svg>", render(runs), flags=re.DOTALL):
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
        assert "var(--" in svg


def test_documents_without_facts_of_data_encoder_and_run_still_make_a_page(runs):
    facts = ("data", "encoder", "leak_check", "run")
    documents = [{part: value for part, value in run.document.to_dict().items() if part not in facts} for run in runs]
    bare = [replace(run, document=ResultsDocument.model_validate(values)) for run, values in zip(runs, documents, strict=True)]
    shown = " ".join(Page(render(bare)).shown.split())
    assert "test images that its fine-tuning had not seen" in shown


def test_labels_saved_are_reported_whether_reached_or_not(runs):
    changes = [{"reached": "10pct"}, {"reached": None}, {"reached": None, "at_chance": True}]
    changed = [with_changes(run, {"labels_saved": {**SAVED, **change}}) for run, change in zip(runs, changes, strict=True)]
    shown = " ".join(Page(render(changed)).shown.split())
    for needed in ("10% of the labels", "more than was tried", "– (chance)"):
        assert f"0.7210.600 to 0.800 0.01{needed}" in shown, needed


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    for name in ("a.html", "b.html"):
        write_comparison(runs, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
