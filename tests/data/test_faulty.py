"""Faulty files among many good ones, as benchmarks/faulty.py plants them: 300 files here, 10 000 there."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def faulty(script: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return script("benchmarks/faulty.py")


@pytest.mark.fault("D1", "D2", "D4", "D7", "D13", "D20", "N1", "N2", "N3", "N4", "N5", "I1", "I2", "I3", "D22", "I7")
@pytest.mark.slow
def test_every_faulty_file_among_300_is_found_for_its_reason_and_no_good_one(faulty: ModuleType, tmp_path: Path) -> None:
    found = list(faulty.measure(tmp_path, 300))
    assert sum(len(one.planted) for one in found) == sum(map(len, faulty.FAULTS.values())) == 23
    for one in found:
        assert one.missed == one.misnamed == one.false_alarms == [], one.source
    assert [one.used for one in found] == [120 - 8, 3 * (60 - 6), 120 - 9]
    assert list(faulty.table(found))[-1] == "23 of 23 faulty files found, 0 for another reason, 0 false positives"


def test_what_is_missed_misnamed_or_taken_for_faulty_is_told(faulty: ModuleType) -> None:
    planted = dict.fromkeys(("a.png", "b.png", "c.png"), ("half a PNG", "truncated"))
    found = faulty.Found("folder", 5, planted, {"a.png": "truncated", "b.png": "crc", "d.png": "empty"}, 2, 1.0)
    assert (found.missed, found.false_alarms) == (["c.png"], ["d.png"])
    assert found.misnamed == ["half a PNG: crc, not truncated"]
    assert list(faulty.table([found]))[-1] == "2 of 3 faulty files found, 1 for another reason, 1 false positives"
