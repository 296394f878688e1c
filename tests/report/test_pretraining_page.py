"""The page of a pretraining: made from the run folder alone, with what is there."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from PIL import Image

from medssl.errors import UserError
from medssl.report.pretraining_page import format_duration, write_pretraining_page
from medssl.runs.next_command import finetune_after_pretrain

SCRIPT = "<script>alert(1)</script>"
CARD: dict[str, Any] = {
    "method": {"name": "pnnclr", "title": "pNNCLR", "uses_labels": False},
    "backbone": {"name": "timm", "model": "resnet18"},
    "pretraining": {"patients": ["a", "b"], "pixels": ["1", "2", "3", "4"]},
    "config": {"train": {"batch_size": 8}, "device": "auto"},
    "data": {"fingerprint": "0123456789abcdef"},
}
ROWS = [
    {"step": 10, "loss": 4.0, "lr": 1e-3, "images_per_second": 4.0, "embedding_std": 0.5},
    {"step": 20, "loss": None, "lr": 5e-4, "images_per_second": 8.0, "embedding_std": 0.25},
    {"step": 30, "loss": 3.0, "lr": 1e-4, "images_per_second": 8.0, "embedding_std": 0.75, "knn": 0.8, "rankme": 12.0},
]


def a_run(folder: Path, card: Any = CARD, rows: Any = ROWS, pictures: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("views.png", "neighbours.png") if pictures else ():
        Image.new("L", (900, 300), 90).save(folder / name)
    return folder


def page_of(run: Path) -> str:
    write_pretraining_page(run, run / "report.html", finetune_after_pretrain(run))
    return (run / "report.html").read_text("utf-8")


def test_the_page_says_what_was_done_with_the_last_value_of_each_metric(tmp_path: Path) -> None:
    page = page_of(a_run(tmp_path))
    assert "pretrained on 4 different images of 2 patients, without looking at a label: 30 steps, 8 images in each." in page
    for figure in ("<strong>0.800</strong>AUROC of kNN", "<strong>12.0</strong>RankMe", "<strong>0.75</strong>spread"):
        assert figure in page
    assert page.count("<figcaption>") == 5, "loss, quality, spread, rank, learning rate: no neighbours were measured"
    assert page.count("data:image/png;base64,") == 2 and "images of patients" in page


def test_the_page_of_volumes_speaks_of_volumes_and_of_no_images(tmp_path: Path) -> None:
    patches = {"preparation": {"settings": {"volumes": "patches"}}}
    page = page_of(a_run(tmp_path, {**CARD, **patches}))
    assert "pretrained on 4 different volumes of 2 patients" in page and "8 volumes in each" in page
    assert "On the left a part of a volume" in page and "AUROC of held-out volumes" in page and "volumes per second" in page
    text = re.sub(r"<[^>]*>", "", page[page.index("<main") :])
    assert re.findall(r"\w+ images?\b(?! of patients)", text) == []
    slices = {"data": {**CARD["data"], "samples": "slices of 2 volumes"}}
    page = page_of(a_run(tmp_path, {**CARD, **slices}))
    assert "4 different slices of 2 volumes of 2 patients" in page and "8 slices in each" in page


def test_the_page_names_the_weights_that_the_training_started_from_and_counts_its_own_images(tmp_path: Path) -> None:
    start = {
        "file": "resnet18.a1_in1k.pth",
        "adapted": ["conv1.weight: 3 to 1 channels, summed"],
        "seen_before": {"patients": 0, "pixels": 3},
    }
    page = page_of(a_run(tmp_path, {**CARD, "start": start}))
    assert (
        "on 1 different images of 2 patients, without looking at a label, starting from the weights of resnet18.a1_in1k.pth: 30 steps"
        in page
    )
    assert "conv1.weight: 3 to 1 channels, summed" in page


def test_time_and_cost_come_from_the_measured_speeds(tmp_path: Path) -> None:
    # 10 steps of 8 images at 4/s, then 20 at 8/s: 20 + 10 + 10 seconds.
    page = page_of(a_run(tmp_path))
    assert "<dd>40 seconds</dd>" in page and "6 images per second" in page and "240 (each image 60.0 times)" in page


def test_a_resumed_run_counts_no_step_twice(tmp_path: Path) -> None:
    page = page_of(a_run(tmp_path, rows=[*ROWS[:2], ROWS[0], *ROWS]))
    assert "<dd>40 seconds</dd>" in page


def test_what_a_run_does_not_have_is_left_out(tmp_path: Path) -> None:
    page = page_of(a_run(tmp_path, rows=[], pictures=False))
    for section in ("curves", "views", "neighbours", "audit"):
        assert f'id="{section}"' not in page and f'href="#{section}"' not in page
    assert "The speed of this run was not measured." in page and "images of patients" not in page
    supervised = {**CARD, "method": {"name": "supervised", "title": "Supervised", "uses_labels": True}}
    assert "without looking at a label" not in page_of(a_run(tmp_path, card=supervised))


def test_an_unfinished_run_is_refused_with_the_command_that_goes_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not finished.*medssl pretrain --resume"):
        write_pretraining_page(tmp_path, tmp_path / "report.html", "medssl")


@pytest.mark.parametrize(
    ("advised", "options"),
    [
        ({"advised_labels": {"label": "grade", "labels": "all"}}, "--label grade --labels all --encoder"),
        ({}, "--labels 10pct --encoder"),  # the card of an older version
        ({"advised_labels": None}, "--encoder"),
    ],
)
def test_the_page_and_the_terminal_advise_the_same_next_command(tmp_path: Path, advised: Any, options: str) -> None:
    run = a_run(tmp_path / "a (1)", card={**CARD, **advised})
    command = finetune_after_pretrain(run)
    assert command.startswith(f"medssl finetune {options} '{run}'")
    assert ("--data PATH, where PATH has images with labels" in command) == (advised == {"advised_labels": None})
    assert f"<code>{html.escape(command)}</code>" in page_of(run).replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 seconds"), (119.4, "119 seconds"), (756, "12.6 minutes"), (12_600, "3.5 hours")])
def test_a_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_without_requests_and_console_messages_and_fits(tmp_path: Path, browser: Browser, width: int) -> None:
    card = {**CARD, "method": {**CARD["method"], "title": SCRIPT}, "data": {"fingerprint": "0123456789abcdef" * 20}}
    page_of(a_run(tmp_path, card=card))
    page = tmp_path / "report.html"
    seen = browser.visit(page, width=width)
    assert seen.requests == [page.as_uri()] and seen.console == []
    assert seen.facts["wide"] <= width and seen.facts["images"] == 2 and seen.facts["broken"] == 0
