"""Each layout of tests/layouts is understood as its function says, and docs/layouts.md shows what medssl says today."""

from pathlib import Path

import layouts_page
import pytest
from layouts import published
from layouts.understood import list_images, understood


@pytest.mark.parametrize("layout", layouts_page.layouts(), ids=lambda layout: layout.name)
def test_a_layout_is_understood_as_it_is_meant_or_refused_with_the_setting(layout: layouts_page.Layout, tmp_path: Path) -> None:
    source, said, right = layouts_page.judge(layout, tmp_path)
    assert right, (said, source and understood(source), source and source.notes)
    shown = [*(source.notes if source else ()), said]
    assert not [text for text in shown if "DOE" in text], "a cell of the table is told"


@pytest.mark.slow
def test_the_page_shows_what_medssl_says_today() -> None:
    assert layouts_page.PAGE.read_text("utf-8") == layouts_page.page(), "python tests/layouts_page.py"


def test_a_table_with_a_row_for_each_folder_of_a_patient_makes_the_patients_certain(tmp_path: Path) -> None:
    published.brats(tmp_path)
    assert {record.patient_from for record in list_images(tmp_path).records} == {"data"}
    guessed = list_images(tmp_path, {"table": "none"})
    assert {record.patient_from for record in guessed.records} == {"names"}
