"""The house style where a program can check it: sizes, names, layers. The reasons stand in CONTRIBUTING.md."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [file for room in ("medssl", "pipelines", "benchmarks", "tests") for file in sorted(ROOT.joinpath(room).rglob("*.py"))]
PACKAGE = [file for file in SOURCES if file.is_relative_to(ROOT / "medssl")]


def named(files):
    return pytest.mark.parametrize("file", files, ids=[str(file.relative_to(ROOT)) for file in files])


def statements(function):
    """The statements of a function, without its docstring and without those of functions inside it."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    count, todo = 0, list(body)
    while todo:
        node = todo.pop()
        count += isinstance(node, ast.stmt)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(node))
    return count


def test_statements_are_counted_as_by_hand():
    code = """
def f(x):
    "Doc."
    if x:
        y = 1
        for i in x:
            y += i
    def g():
        return 1
    return y
"""
    assert statements(ast.parse(code).body[0]) == 6  # if, assignment, for, addition, def, return


@named(SOURCES)
def test_a_file_is_shorter_than_300_lines_and_a_function_than_40_statements(file):
    text = file.read_text("utf-8")
    assert len(text.splitlines()) < 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert statements(node) < 40, node.name


@named(PACKAGE)
def test_a_module_says_what_it_is_and_so_does_what_it_offers(file):
    module = ast.parse(file.read_text("utf-8"))
    assert ast.get_docstring(module), "the module has no docstring"
    private = file.stem.startswith("_") and not file.stem.startswith("__")
    for node in [] if private else module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and node.name != "Config":
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@named(PACKAGE)
def test_inheritance_is_one_level_deep(file):
    classes = {node.name: node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.ClassDef)}
    for node in classes.values():
        parents = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
        deep = [parent.name for parent in parents if any(isinstance(base, ast.Name) and base.id in classes for base in parent.bases)]
        assert not deep, f"{node.name} inherits through {deep}"


def test_no_room_is_called_utils_helpers_or_common():
    assert not [file for file in SOURCES if file.stem in {"utils", "util", "helpers", "helper", "common", "misc"}]


def test_tests_mirror_the_package():
    rooms = {folder.relative_to(ROOT / "medssl") for folder in ROOT.joinpath("medssl").rglob("*") if folder.is_dir()}
    tested = {file.parent.relative_to(ROOT / "tests") for file in SOURCES if file.is_relative_to(ROOT / "tests")}
    assert tested - rooms <= {Path(), Path("contracts"), Path("docker")}


def test_the_arrows_between_the_parts_go_down_only():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-logo", "--no-cache"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "0 broken" in process.stdout


def test_the_light_modules_import_nothing_heavy():
    code = (
        "import sys, json, medssl.cli, medssl.console, medssl.errors, medssl.plugins, medssl.types; print(json.dumps(sorted(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(process.stdout)}
    assert not loaded & {"torch", "monai", "mlflow", "albumentations", "sklearn", "matplotlib", "pandas", "numpy", "pydantic"}


@pytest.mark.fault("R7")
def test_a_command_looks_at_its_folder_before_it_imports_what_needs_one_for_temporary_files():
    """torchvision, which timm imports, brings in torch's compiler, whose import fails where no folder can be written."""
    commands = "pretrain, finetune, predict, report, demo, prepare, doctor, track"
    code = f"import sys, json, medssl.studies.plan; from medssl.commands import {commands}; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(json.loads(process.stdout)) & {"timm", "torchvision", "torch._dynamo", "monai", "mlflow"}


@pytest.mark.parametrize(
    "pattern", [r"strict=False\b.*load|load.*strict=False", r"allow_pickle=True", r"weights_only=False", r"\bpickle\.load"]
)
def test_nothing_is_loaded_unsafely_or_silently(pattern):
    found = [
        f"{file}:{i}" for file in PACKAGE for i, line in enumerate(file.read_text("utf-8").splitlines(), 1) if re.search(pattern, line)
    ]
    assert not found


def test_every_requirement_of_the_lock_has_a_hash_and_no_address():
    lock = ROOT.joinpath("requirements.lock").read_text("utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", lock.strip())
    assert len(entries) > 50
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry or "==" not in entry]
    assert "://" not in lock
