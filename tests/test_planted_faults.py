"""Faults that silently spoil a method or a statistic, planted one at a time into a copy of the package: its own tests must catch each.

They stand beside those tests, as `FAULTS` in any test file: (file of the package, old text, new text); in tests/methods/test_<name>.py
(old, new) is a change of the method's file. planted_faults.json says which test caught each the last time: this test is run first, which
saves the time of the others. `make methods` writes the file again.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CAUGHT_BY = Path(__file__).with_name("planted_faults.json")

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


@pytest.fixture(scope="module")
def logs(tmp_path_factory, request):
    """What a file's tests say of each faulty copy of the package; and what the tests that failed say of a copy without a fault ("none")."""
    folder = tmp_path_factory.mktemp("faults")
    asked = [item for item in request.session.items if item.module is request.module]
    chosen = {name: FAULTS[name] for item in asked if hasattr(item, "callspec") and (name := item.callspec.params["name"]) in FAULTS}
    copies = {name: folder / str(number) for number, name in enumerate((*chosen, "none"))}
    for name, copy in copies.items():
        for part in ("medssl", "configs"):
            shutil.copytree(ROOT / part, copy / part)
        if name in chosen:
            plant(copy / "medssl", *chosen[name][1:])
    caught_by = json.loads(CAUGHT_BY.read_text("utf-8"))
    jobs = [f"{copy}={chosen[name][0]}::{caught_by.get(name, '')}" if name in chosen else f"{copy}=" for name, copy in copies.items()]
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    subprocess.run([sys.executable, ROOT / "tests/faulty_copies.py", *jobs], cwd=ROOT, env=environment, timeout=1490, check=True)
    if request.config.getoption("--write-methods"):
        caught = {name: (copies[name] / "failed").read_text().strip().partition("::")[2] for name in chosen}
        merged = {name: test for name, test in sorted({**caught_by, **caught}.items()) if name in FAULTS}
        CAUGHT_BY.write_text(json.dumps(merged, indent=1) + "\n", "utf-8")
    return {name: (copy / "log").read_text() for name, copy in copies.items()}


def plant(package: Path, file: str, old: str, new: str) -> None:
    path = package / file
    path.write_text(path.read_text().replace(old, new))
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):  # of the file without the fault, were its time and size the same
        compiled.unlink()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", FAULTS)
def test_the_tests_catch(name, logs):
    assert logs[name].endswith("exit code 1"), f"not caught: {name}\n{logs[name][-2000:]}"
    assert "1 failed" in logs[name]


@pytest.mark.slow
def test_without_a_fault_the_tests_that_failed_pass(logs):
    assert logs["none"].endswith("exit code 0"), logs["none"][-2000:]


@pytest.mark.parametrize("name", FAULTS)
def test_the_text_that_a_fault_replaces_stands_once_in_its_file(name):
    _, file, old, _ = FAULTS[name]
    assert (ROOT / "medssl" / file).read_text("utf-8").count(old) == 1, f"plant this fault in {file} anew"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_at_least_three_faults_and_pnnclr_eight(name):
    count = sum(fault.startswith(f"{name}:") for fault in FAULTS)
    assert count >= (8 if name == "pnnclr" else 3)
