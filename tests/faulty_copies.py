"""`faulty_copies.py COPY=FILE[::TEST] ...`: runs the tests of a file, up to the first that fails, against each COPY: a folder with the
package. TEST, which caught the fault the last time, comes first.

One process imports the heavy libraries, which takes longer than most of the tests; a fork of this process runs each file and leaves
COPY/log and COPY/failed (names of tests). A COPY without a file has no fault. This copy is the last, and runs the tests that failed.
"""

import gc
import importlib
import os
import sys
from pathlib import Path

# What the package and its tests import. The package itself is imported by each fork, from its copy.
LIBRARIES = (
    *("beartype", "jaxtyping", "lightly.loss", "matplotlib.figure", "mlflow", "pandas", "pydantic", "pytest", "pytest_timeout"),
    *("scipy.stats", "sklearn.metrics", "timm", "torch"),
)
OPTIONS = ("-q", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestWarning")
AT_ONCE = 2


class Failed:
    """A plugin of pytest that runs the test `first` before the others, and writes the names of the tests that failed into a file."""

    def __init__(self, file: Path, first: str = "") -> None:
        self.file, self.first = file, first

    def pytest_collection_modifyitems(self, items) -> None:
        items.sort(key=lambda item: item.nodeid.partition("::")[2] != self.first)

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            with self.file.open("a") as file:
                print(report.nodeid, file=file)


def start(copy: Path, *arguments: str, first: str = "") -> None:
    """pytest in a fork of this process, with the package of the copy."""
    if os.fork():
        return
    import pytest

    sys.path.insert(0, str(copy))
    log = os.open(copy / "log", os.O_CREAT | os.O_WRONLY)
    for output in (1, 2):
        os.dup2(log, output)
    code = pytest.main([*OPTIONS, *arguments], plugins=[Failed(copy / "failed", first)])
    os.write(log, f"\nexit code {int(code)}".encode())
    os._exit(0)


def main(jobs: list[tuple[Path, str]]) -> None:
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # pytest would import Hydra, of which no test has need
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # pytest collects garbage as it ends, and would go through all objects of the libraries
    faulty = [(copy, tests) for copy, tests in jobs if tests]
    for number, (copy, tests) in enumerate(faulty):
        if number >= AT_ONCE:
            os.wait()
        file, _, first = tests.partition("::")
        start(copy, "-x", file, first=first)
    for _ in faulty[:AT_ONCE]:
        os.wait()
    for copy in [copy for copy, tests in jobs if not tests]:
        failed = [(faulty_copy / "failed").read_text().splitlines() for faulty_copy, _ in faulty if (faulty_copy / "failed").exists()]
        start(copy, *sorted({name for names in failed for name in names}))
        os.wait()


if __name__ == "__main__":
    main([(Path(copy), tests) for copy, _, tests in (job.partition("=") for job in sys.argv[1:])])
