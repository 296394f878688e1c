"""The whole page, with every picture, in a browser: it requests nothing, logs nothing, and fits a telephone."""

from pathlib import Path

import pytest
from browser import Browser
from compared import FLAT, RIGHT, with_changes, write_run
from pages import SCRIPT, a_document, picture_inputs, score, to_results, with_everything

from medssl.compare import write_comparison
from medssl.report import draw_pictures, figure_files, write_report
from medssl.report.page import render

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = a_document()
    document["task"]["classes"][1]["name"] = SCRIPT
    document = with_everything(document)
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(to_results(document), path, draw_pictures(*picture_inputs(), seed=0))
    return path


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_without_requests_and_console_messages_and_fits(page: Path, browser: Browser, width: int, dark: bool) -> None:
    seen = browser.visit(page, width=width, dark=dark)
    assert seen.requests == [page.as_uri()]
    assert seen.console == []
    assert seen.facts["wide"] <= width
    assert width < 1280 or seen.facts["cut"] == [], "a table that must be scrolled on a wide screen hides its last columns"
    assert seen.facts["images"] > 30 and seen.facts["broken"] == 0
    assert seen.facts["paper"] == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_comparison_opens_without_requests_and_console_messages_and_fits(browser: Browser, tmp_path: Path, width: int) -> None:
    baselines = {"random": {"10pct": [FLAT], "100pct": [FLAT]}, "pixels": {"10pct": [FLAT], "100pct": [FLAT]}}
    methods = ("moco", "simclr", "nnclr", "pnnclr", "byol", "simsiam", "vicreg", "a_method_with_a_long_name")
    runs = [write_run(tmp_path / "nih" / name, {"pretrained": {"10pct": [RIGHT]}, **baselines}, method=name) for name in methods]
    saved = {"mode": "linear", "versus": "random", "at": "100pct", "auroc": score(0.7), "margin": 0.01, "at_chance": False}
    runs = [with_changes(run, {"labels_saved": {**saved, "reached": None, "by_fraction": []}}) for run in runs]
    write_comparison(runs, tmp_path / "comparison.html")
    seen = browser.visit(tmp_path / "comparison.html", width=width)
    assert seen.requests == [(tmp_path / "comparison.html").as_uri()] and seen.console == []
    assert seen.facts["wide"] <= width
    assert width < 1280 or seen.facts["cut"] == [], "a table that must be scrolled on a wide screen hides its last columns"


def test_the_browser_notices_a_page_with_requests_errors_and_too_much_width(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text('<img src="other.png"><script>console.error("heard")</script><div style="width: 2000px">wide</div>')
    seen = browser.visit(tmp_path / "bad.html", width=1280)
    assert (tmp_path / "other.png").as_uri() in seen.requests
    assert any("heard" in message for message in seen.console)
    assert seen.facts["wide"] >= 2000 and seen.facts["broken"] == 1


def test_the_policy_stops_a_script_and_a_request_that_were_put_into_the_page(page: Path, browser: Browser, tmp_path: Path) -> None:
    text = page.read_text("utf-8").replace("</main>", '<script>window.ran = 1</script><img src="other.png"></main>')
    (tmp_path / "attacked.html").write_text(text, "utf-8")
    seen = browser.visit(tmp_path / "attacked.html", width=1280)
    assert seen.facts["ran"] == "no"
    assert any("Content Security Policy" in message for message in seen.console)


def test_the_page_is_small_and_says_that_it_shows_patients(page: Path) -> None:
    text = page.read_text("utf-8")
    assert len(text) < 1_000_000
    assert "page shows images of patients: keep it under the same rules as the data" in text
    assert "shows images of patients" not in render(to_results(with_everything(a_document())))


def test_subgroups_sites_classes_and_the_audit_come_from_the_document(page: Path) -> None:
    text = page.read_text("utf-8")
    for text_part in (
        "St Mary (few patients)",
        "0.777",
        "recognises the site of 93% of the images",
        "The features contain the site",
        "0.046",
        "Scores of each class",
    ):
        assert text_part in text, text_part
    for text_part in ("761 used of 770 found (folder)", "9 left out: truncated_pixels (a fault)", "3 copies stand on both sides"):
        assert text_part in text, text_part
    assert text.count("<script") == 0 and text.count("&lt;script&gt;") > 10


def test_every_entry_of_the_contents_has_its_section_and_every_section_its_entry(page: Path) -> None:
    import re

    for text in (page.read_text("utf-8"), render(to_results(a_document())), render(to_results(with_everything(a_document())))):
        entries, sections = set(re.findall(r'<a href="#([^"]+)"', text)), set(re.findall(r'<h2 id="([^"]+)"', text))
        assert entries == sections


def test_figures_of_the_document_go_to_the_tracker() -> None:
    assert list(figure_files(to_results(a_document()))) == ["label_efficiency.png"]
    assert list(figure_files(to_results(with_everything(a_document())))) == ["label_efficiency.png", "subgroups.png"]
