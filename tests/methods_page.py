"""docs/methods.md: each method, what its loss was checked against, the errors found, the planted faults caught (`make methods`)."""

import ast
from collections.abc import Mapping
from pathlib import Path

from medssl import plugins

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/methods.md"
_HEAD = """# Methods

`medssl pretrain --method NAME` chooses a method. `make methods` writes this page from the tests. The columns are:

- *lines*: the number of lines of the file, with its documentation.
- *checked against*: the reference that the tests compare the loss with.
- *largest error*: the largest difference from the reference in float64, as a share of the number's size.
- *faults*: a test plants errors into a copy of the package, one at a time. The column says how many of them the method's own tests found.
- *two devices*: one process with a batch of 64 is compared with two processes with a batch of 32 each (gloo), after three steps. The
  column has the largest root mean square difference of losses, gradients, weights, statistics and support set, in float64 (narrow
  ResNet-18) and float32 (two convolutions).

| method | paper | lines | checked against | largest error | faults | two devices, float64 | float32 |
|---|---|---|---|---|---|---|---|
"""

Properties = Mapping[str, Mapping[str, object]]  # of each test's node


def page(outcomes: Mapping[str, list[str]], properties: Properties) -> str:
    """The whole page. `outcomes`: {"tests/file.py::function[id]": ["passed"]}; `properties`: what the tests recorded.

    A number whose tests were not run stays as the page has it."""
    before = {cells[0]: cells for cells in written()}
    new = [[now or old for now, old in zip(row, before.get(row[0], row), strict=True)] for row in rows(outcomes, properties)]
    return _HEAD + "".join(f"| {' | '.join(cells)} |\n" for cells in new)


def written() -> list[list[str]]:
    """The cells of the page as it stands, one list a method."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def rows(outcomes: Mapping[str, list[str]], properties: Properties) -> list[list[str]]:
    found = []
    for name in plugins.names("methods"):
        file, tests = ROOT / f"medssl/methods/{name}.py", f"tests/methods/test_{name}.py"
        title, _, _ = str(ast.get_docstring(ast.parse(file.read_text("utf-8")))).partition("\n")
        errors = [float(str(p["largest_error"])) for node, p in properties.items() if node.startswith(tests) and "largest_error" in p]
        caught = [o for node, o in outcomes.items() if node.startswith(f"tests/test_planted_faults.py::test_the_tests_catch[{name}: ")]
        devices = [
            number(properties.get(f"tests/contracts/test_many_devices.py::{test}[{name}]", {}), kind)
            for test, kind in (
                ("test_in_float64_two_times_32_is_one_times_64_to_twelve_digits", "float64"),
                ("test_in_float32_they_differ_by_1e_6_or_by_less_than_twice_what_rounding_does_to_one", "float32"),
            )
        ]
        reference = constant(ROOT / tests, "REFERENCE") if (ROOT / tests).exists() else "see pnnclr"
        share = f"{sum(o == ['passed'] for o in caught)} of {len(caught)}" if caught else ""
        lines = str(len(file.read_text("utf-8").splitlines()))
        found.append([f"`{name}`", title, lines, reference, f"{max(errors):.0e}" if errors else "", share, *devices])
    return found


def number(recorded: Mapping[str, object], kind: str) -> str:
    value = recorded.get(f"two devices, {kind}")
    return "" if value is None else f"{float(str(value)):.0e}"


def constant(file: Path, name: str) -> str:
    """The value of a module's constant, a plain text."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
    return ""
