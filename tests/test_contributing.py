"""The worked examples in CONTRIBUTING.md: put into a copy of the package, they pass their own tests and the contract tests."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial

import pytest

BLOCK = re.compile(r"^```python\n# (?P<path>\S+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory, repository):
    """A copy of package, tests and presets with the examples in it, and the examples' paths."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("medssl", "tests", "configs"):
        shutil.copytree(repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", folder)
    (folder / "docs").mkdir()
    shutil.copy(repository / "docs/methods.md", folder / "docs")
    blocks = [(found["path"], found["code"]) for found in BLOCK.finditer((repository / "CONTRIBUTING.md").read_text("utf-8"))]
    for path, code in blocks:
        assert not (folder / path).exists(), f"{path} is no example any more"
        (folder / path).write_text(code, "utf-8")
    return folder, [path for path, _ in blocks]


def test_there_is_an_example_with_its_test_for_each_kind(copy):
    assert copy[1] == [
        "medssl/methods/spectral.py",
        "tests/methods/test_spectral.py",
        "medssl/data/sources/tuberculosis.py",
        "tests/data/sources/test_tuberculosis.py",
        "medssl/backbones/plain.py",
        "tests/backbones/test_plain.py",
    ]


def test_all_that_the_examples_import_is_there(copy):
    """The whole proof is slow; a name that was changed elsewhere is found here."""
    folder, paths = copy
    files = [str(folder / path) for path in paths]
    code = "import runpy, sys; sys.path.insert(0, 'tests'); [runpy.run_path(file) for file in sys.argv[1:]]"
    process = subprocess.run([sys.executable, "-c", code, *files], cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_the_examples_pass_their_tests_the_contract_tests_and_catch_their_faults(copy):
    folder, paths = copy
    run = partial(subprocess.run, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False)
    tests = [path for path in paths if path.startswith("tests/")]
    chosen = ["-k", "spectral or tuberculosis or plain or page", *tests, "tests/contracts", "tests/test_methods_page.py"]
    chosen += ["tests/test_planted_faults.py"]
    process = run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *chosen])
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-2000:]
    for name in ("methods.spectral", "data.sources.tuberculosis", "backbones.plain", "spectral: pairs swapped"):
        assert f"[{name}] PASSED" in process.stdout, f"the contract tests did not see {name}"


def test_the_examples_follow_the_house_style(copy, repository):
    folder, paths = copy
    for command in (["check"], ["format", "--check"]):
        process = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(repository / "pyproject.toml"), *paths],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
