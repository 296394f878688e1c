"""The report: one file that asks nothing of anywhere, in which foreign text stays text and every number is that of the document."""

import copy
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pages import SCRIPT, Page, a_document, render, to_results

from medssl.report import figure_files, write_report
from medssl.report.figures import WIDE, _label_efficiency, figure_svg


def with_hostile_text() -> dict[str, Any]:
    document = a_document()
    attribute = '"><img src=x onerror=alert(1)>'
    document["task"]["classes"][1]["name"] = SCRIPT
    document["task"]["column"] = attribute
    document["data"] = {"name": SCRIPT, attribute: attribute}
    document["run"]["command"] = f"medssl finetune {SCRIPT} {{{{ 7 * 7 }}}}"
    for part in (*document["summary"], *document["paired"]):
        for key in ("init", "versus"):
            if part.get(key) == "random":
                part[key] = SCRIPT + "$x^2$-->"
    return document


@pytest.mark.parametrize(
    ("column", "predicted", "title"),
    [("sex", "to predict sex (normal or sick);", "nih (sex)"), ("label", "to predict the label (normal or sick);", "nih")],
)
def test_the_page_names_the_label_column_and_its_classes(column: str, predicted: str, title: str) -> None:
    document = a_document()
    document["task"]["column"] = column
    shown = " ".join(Page(render(document)).shown.split())
    assert predicted in shown
    assert f"Label efficiency: {title} An encoder" in shown
    assert f"an image with {column} sick gets a higher score than an image with {column} normal" in shown


def test_foreign_text_is_shown_and_never_run() -> None:
    shown_page = Page(render(with_hostile_text()))
    assert not {"script", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in shown_page.elements}
    assert not [name for _, attributes in shown_page.elements for name in attributes if name.startswith("on")]
    assert f"(normal or {SCRIPT})" in shown_page.shown
    assert "{{ 7 * 7 }}" in shown_page.shown
    drawn = Page(figure_svg(to_results(with_hostile_text()), WIDE, "x"))
    assert f"{SCRIPT}$x^2$-->" in drawn.shown and "script" not in {tag for tag, _ in drawn.elements}


def test_the_policy_forbids_everything_but_inline_style_and_data_images() -> None:
    metas = [attributes for tag, attributes in Page(render(a_document())).elements if tag == "meta"]
    policy = next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_page_names_no_address_outside_itself() -> None:
    text = render(a_document())
    assert not re.search(r"https?:|//[a-z]|@import", text)
    for _, attributes in Page(text).elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))


def test_ids_are_unique_and_every_reference_inside_the_page_has_its_target() -> None:
    elements = Page(render(a_document())).elements
    ids = [attributes["id"] for tag, attributes in elements if "id" in attributes and tag in {"path", "clipPath", "h2"}]
    assert len(ids) == len(set(ids))
    used = [value[1:] for _, attributes in elements for key, value in attributes.items() if key == "xlink:href" and value]
    assert used and set(used) <= set(ids)


def test_of_unknown_patients_the_page_claims_none_and_says_what_that_means() -> None:
    document = a_document()
    unknown = {"stated": 0, "guessed": 0, "unknown": 759, "instead": "image"}
    document["data"]["patients"] = document["encoder"]["patients"] = unknown
    shown = " ".join(Page(render(document)).shown.split())
    assert "scored once on 150 images of unknown patients that" in shown
    assert "1,549 different images of unknown patients" in shown
    assert "Patients are unknown: each image counts as a patient of its own, so images of one patient may stand on both sides" in shown
    assert "unseen test images" in shown and "resamples of the test images and the draws" in shown
    assert not re.search(r"[0-9] patients(?!:)|unseen patients|test patients", shown)


def test_with_few_test_patients_there_is_a_warning_and_no_interval() -> None:
    document = a_document()
    intervals = re.findall(r"0\.\d{3} to 0\.\d{3}", Page(render(document)).shown)
    assert len(intervals) > 20
    document["interval"]["warning"] = "The test has only 6 patients (normal 3, sick 3)"
    shown = Page(render(document)).shown
    assert "The test has only 6 patients (normal 3, sick 3)" in shown and "too few patients for an interval" in shown
    assert "better" not in re.findall(r"<td>([a-z ]+)</td></tr>", render(document))
    assert not re.findall(r"0\.\d{3} to 0\.\d{3}", shown)


def test_data_that_may_not_tell_patients_apart_is_named_as_a_limit() -> None:
    document = a_document()
    assert "patient key of its own" not in render(document)
    document["task"]["pool"]["n_patients"], document["task"]["test"]["n_patients"] = 609, 150
    assert "patient key of its own" in render(document)


def test_the_table_holds_every_score_with_its_interval_and_the_command_stands_at_the_end() -> None:
    shown_page = Page(render(a_document()))
    for number in ("0.701", "0.651 to 0.741", "0.885", "0.690", "5 to 7 images of 4 patients", "609 images"):
        assert number in shown_page.shown, number
    assert "medssl finetune --labels 10pct" in shown_page.shown
    assert "100 entries" in shown_page.shown


def test_scores_at_operating_points_and_the_test_of_the_gain_stand_on_the_page() -> None:
    shown_page = Page(render(a_document()))
    for text in ("Sensitivity at 95% specificity", "Brier score", "0.234", "p (DeLong)", "0.012", "under 0.001"):
        assert text in shown_page.shown, text


def test_labels_saved_are_reported_whether_reached_or_not() -> None:
    document = a_document()
    reference = "the same network from random initialisation with 100% of the labels"
    fewest = f"The fewest labels with which the encoder is not inferior to {reference} (AUROC 0.720, margin 0.01) are 10% of the labels."
    assert fewest in Page(render(document)).shown
    assert "1% \N{MINUS SIGN}0.019 (\N{MINUS SIGN}0.100 to +0.200); 10% +0.103" in Page(render(document)).shown
    document["labels_saved"]["reached"] = None
    assert f"With none of these fractions is the encoder shown to be not inferior to {reference}" in Page(render(document)).shown
    assert "not inferior" not in Page(render(a_document(("100pct",)))).shown


def test_labels_saved_are_not_reported_where_random_initialisation_is_at_chance() -> None:
    document, reference = a_document(), "the same network from random initialisation with 100% of the labels"
    document["labels_saved"] |= {"reached": None, "at_chance": True}
    shown = Page(render(document)).shown
    assert f"Labels saved are not reported: {reference} cannot be told from chance (AUROC 0.720, 0.660 to 0.780)." in shown
    assert "not inferior" not in shown and "Differences from that AUROC" not in shown


def test_each_row_says_its_own_number_of_draws() -> None:
    """All labels are drawn once, but the random initialisation is another one in each of three draws."""
    document = a_document(("100pct",))
    document["summary"][1]["draws"] = 3
    page = Page(render(document))
    text = " ".join(page.shown.split())
    assert "100% of the labels · 609 images of 4 patients pretrained1 draw" in text
    assert "random initialisation3 draws" in text
    assert "draws of patients" not in text


def test_a_single_fraction_is_drawn_as_dots_and_named_without_a_list() -> None:
    shown = Page(render(a_document(("100pct",)))).shown
    assert "trained with 100% of the labels to predict" in shown
    assert "logarithmic" not in shown


def test_more_than_two_classes_and_few_facts_still_make_a_page() -> None:
    document = a_document()
    document["task"]["classes"].append({"name": "very sick", "pool": 3, "test": 2})
    for section in ("data", "encoder", "leak_check", "run"):
        del document[section]
    shown = Page(render(document)).shown
    assert "to predict finding (normal, sick or very sick)" in shown
    assert "An encoder was pretrained." in shown


def test_the_same_document_gives_the_same_bytes(tmp_path: Path) -> None:
    document = a_document()
    before = copy.deepcopy(document)
    for name in ("a.html", "b.html"):
        write_report(to_results(document), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert document == before
    assert (tmp_path / "a.html").stat().st_size < 100_000


@pytest.mark.parametrize("fractions", [("10pct",), ("1pct", "10pct", "100pct")])
def test_the_figure_is_a_png_for_the_tracker_and_follows_the_page_as_svg(fractions: tuple[str, ...]) -> None:
    document = to_results(a_document(fractions))
    assert figure_files(document)["label_efficiency.png"].startswith(b"\x89PNG\r\n")
    svg = figure_svg(document, WIDE, "x")
    assert "var(--series-0)" in svg and "var(--series-1)" in svg
    assert not re.search(r"#[0-9a-f]{6}", svg)  # no colour is left that would not follow light and dark
    assert ">pretrained</text>" in svg and "initialisation</text>" in svg


@pytest.mark.parametrize("fractions", [("10pct", "100pct"), ("100pct",)])
def test_where_all_scores_are_perfect_the_axis_of_scores_ends_at_1_and_all_names_are_within_it(fractions: tuple[str, ...]) -> None:
    perfect = a_document(fractions)
    for row in perfect["summary"]:
        row["auroc"] = {"mean": 1.0, "low": 1.0, "high": 1.0}
    (axes,) = (figure := _label_efficiency(to_results(perfect).summary, WIDE)).axes
    axis = axes.yaxis if len(fractions) > 1 else axes.xaxis
    assert 0.9 < axis.get_view_interval()[0] < 1 <= axis.get_view_interval()[1] <= 1.02 and round(axis.get_ticklocs().max(), 9) == 1
    figure.canvas.draw()
    if len(fractions) > 1:
        names = [text.get_window_extent() for text in axes.texts if text.get_text() != "chance"]
        assert len(names) == 2 and max(box.y1 for box in names) <= axes.bbox.y1 + 1
        assert all(above.y0 >= below.y1 - 2 for below, above in pairwise(sorted(names, key=lambda box: box.y0)))
