"""Faults that silently spoil a method or a statistic, planted one at a time into a copy of the package: its own tests must catch each.

They stand beside those tests, as `FAULTS` in any test file: (file of the package, old text, new text); in tests/methods/test_<name>.py
(old, new) is a change of the method's file.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


FILES = sorted(file for file in (ROOT / "tests").rglob("test_*.py") if "\nFAULTS = {\n" in file.read_text("utf-8"))


def known() -> dict[str, tuple[Path, str, str, str]]:
    """{"pnnclr: pairs swapped": (test file, file of the package, old, new)}."""
    found = {}
    for tests in FILES:
        spec = importlib.util.spec_from_file_location(f"faults_of_{tests.stem}", tests)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        name = tests.stem.removeprefix("test_")
        for fault, change in getattr(module, "FAULTS", {}).items():
            file, old, new = change if len(change) == 3 else (f"methods/{name}.py", *change)
            found[f"{name}: {fault}"] = (tests, file, old, new)
    return found


FAULTS = known()
METHODS = sorted(file.stem.removeprefix("test_") for file in FILES if file.parent.name == "methods")

# One process imports the heavy libraries once; a fork of it, with one fault each, runs the tests.
DRIVER = """
import os, sys, lightly.loss, pytest, sklearn.metrics, timm, torch
torch.set_num_threads(1)
running = set()
for job in sys.argv[1:]:
    parent, _, tests = job.partition("=")
    if len(running) == 2:
        running.discard(os.wait()[0])
    child = os.fork()
    if child == 0:
        sys.path.insert(0, parent)
        log = os.open(parent + "/log", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestWarning", *tests.split(",")])
        os.write(log, f"\\nexit code {int(code)}".encode())
        os._exit(0)
    running.add(child)
while running:
    running.discard(os.wait()[0])
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory, request):
    """What a method's tests say of each faulty copy of the package, and what all of them say of a copy without a fault."""
    folder = tmp_path_factory.mktemp("faults")
    jobs = {}
    asked = [item for item in request.session.items if item.module is request.module]
    names = [item.callspec.params["name"] for item in asked if hasattr(item, "callspec")]
    chosen = {name: FAULTS[name] for name in names if name in FAULTS}
    without = {"none": None} if any(item.function is test_without_a_fault_the_same_tests_pass for item in asked) else {}
    for number, (name, fault) in enumerate({**chosen, **without}.items()):
        parent = folder / str(number)
        shutil.copytree(ROOT / "medssl", parent / "medssl", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "configs", parent / "configs")
        tests = ["tests/nn", *map(str, FILES)] if fault is None else [str(fault[0])]
        if fault is not None:
            plant(parent / "medssl", *fault[1:])
        jobs[name] = (parent, f"{parent}={','.join(tests)}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    command = [sys.executable, "-c", DRIVER, *(job for _, job in jobs.values())]
    subprocess.run(command, cwd=ROOT, env=environment, timeout=1490, check=True)
    return {name: (parent / "log").read_text() for name, (parent, _) in jobs.items()}


def plant(package: Path, file: str, old: str, new: str) -> None:
    path = package / file
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", FAULTS)
def test_the_tests_catch(name, logs):
    assert logs[name].endswith("exit code 1"), f"not caught: {name}\n{logs[name][-2000:]}"
    assert "1 failed" in logs[name]


@pytest.mark.slow
def test_without_a_fault_the_same_tests_pass(logs):
    assert logs["none"].endswith("exit code 0"), logs["none"][-2000:]


@pytest.mark.parametrize("name", FAULTS)
def test_the_text_that_a_fault_replaces_stands_once_in_its_file(name):
    _, file, old, _ = FAULTS[name]
    assert (ROOT / "medssl" / file).read_text("utf-8").count(old) == 1, f"plant this fault in {file} anew"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_at_least_three_faults_and_pnnclr_eight(name):
    count = sum(fault.startswith(f"{name}:") for fault in FAULTS)
    assert count >= (8 if name == "pnnclr" else 3)
