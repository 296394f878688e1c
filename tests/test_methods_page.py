"""docs/methods.md is the one that the tests would write today, but for the numbers that they measure."""

import methods_page


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_page_lists_the_methods_their_lines_references_and_faults_as_they_are():
    written = [cells(line) for line in methods_page.PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    now = methods_page.rows({}, {})
    assert [row[:4] for row in written] == [row[:4] for row in now], "pytest tests/methods ... --write-methods"


def test_every_number_is_there_and_every_planted_fault_was_caught():
    for name, _, _, _, error, faults, *devices in (
        cells(line) for line in methods_page.PAGE.read_text("utf-8").splitlines() if line.startswith("| `")
    ):
        caught, _, planted = faults.partition(" of ")
        if name != "`pnnclr_paper`":  # tested with pnnclr, whose switches it throws
            assert caught == planted != ""
            assert float(error) < 1e-6
        assert float(devices[0]) < 1e-12
        assert float(devices[1]) < 1e-5  # rounding: the test itself compares with that of one process
