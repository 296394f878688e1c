"""The table of faults in docs/ shows the tests that there are."""

import re
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def reliability(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("tests/reliability.py")


def test_every_fault_of_the_list_has_a_test_and_every_mark_a_fault(reliability: ModuleType) -> None:
    assert reliability.faults().keys() == reliability.marked().keys()


def test_the_page_names_the_tests_that_are_marked_and_none_failed(reliability: ModuleType) -> None:
    """`pytest -m fault --write-docs` writes it anew; after a change of few tests their files will do."""
    assert reliability.PAGE.read_text("utf-8") == reliability.page({})
    outcomes = {row: outcome for row, (_, outcome) in reliability.written().items()}
    assert not {row: outcome for row, outcome in outcomes.items() if not re.fullmatch(r"\d+ passed(, \d+ skipped)?", outcome)}


@pytest.mark.slow
def test_a_row_is_counted_anew_when_all_its_tests_ran_and_keeps_its_count_for_the_same_tests_only(
    reliability: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(page: str, row: str) -> str:
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {row} | "))
        return line.split(" | ")[4].removesuffix(" |")

    first, second = reliability.marked()["R12"], reliability.marked()["R22"]
    assert len(second) > 1
    page = reliability.page({**{name: ["passed", "failed"] for name in first}, second[0]: ["failed"]})
    assert count(page, "R12") == "1 passed, 1 failed"
    assert count(page, "R22") == reliability.written()["R22"][1]
    marks = reliability.marked()
    monkeypatch.setattr(reliability, "marked", lambda: {**marks, "R22": [*second, "tests/test_new.py::test_new"]})
    assert count(reliability.page({}), "R22") == "not run"
