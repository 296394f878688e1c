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
    """`pytest --write-docs` writes it anew."""
    written = [line.split(" | ")[:4] for line in reliability.PAGE.read_text("utf-8").splitlines()]
    assert written == [line.split(" | ")[:4] for line in reliability.page({}).splitlines()]
    outcomes = [line.split(" | ")[4] for line in reliability.PAGE.read_text("utf-8").splitlines() if line.count(" | ") == 4][1:]
    assert outcomes
    assert all(re.fullmatch(r"\d+ passed(, \d+ skipped)? \|", outcome) for outcome in outcomes)
