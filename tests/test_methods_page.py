"""docs/methods.md is the one that the tests would write today, but for the numbers that they measure and for methods that are new."""

import methods_page
from test_planted_faults import FAULTS


def test_the_page_lists_the_methods_their_lines_references_and_faults_as_they_are():
    now = {row[0]: row[:4] for row in methods_page.rows({}, {})}
    written = [row[:4] for row in methods_page.written()]
    assert written
    assert written == [now.get(row[0]) for row in written], "make methods"


def test_every_number_is_there_and_every_planted_fault_was_caught():
    for name, _, _, _, error, faults, *devices in methods_page.written():
        caught, _, planted = faults.partition(" of ")
        if name != "`pnnclr_paper`":  # tested with pnnclr, whose switches it throws
            assert caught == planted == str(sum(fault.startswith(f"{name.strip('`')}: ") for fault in FAULTS))
            assert float(error) < 1e-6
        assert float(devices[0]) < 1e-12
        assert float(devices[1]) < 1e-5  # rounding: the test itself compares with that of one process


def test_a_number_whose_tests_were_not_run_stays_as_it_was():
    recorded = {"tests/methods/test_byol.py::test_the_loss_equals_lightlys": {"largest_error": 3e-15}}
    before = [f"| {' | '.join(cells)} |" for cells in methods_page.written()]
    assert set(before) <= set(methods_page.page({}, {}).splitlines())
    gone = set(before) - set(methods_page.page({}, recorded).splitlines())
    assert gone == {line for line in before if line.startswith("| `byol`")}
