"""The house style where a program can check it: sizes, docstrings, names, the lock. The reasons stand in CONTRIBUTING.md.

`make check` runs it: it prints every offence and ends with 1 if there is one. The layers are import-linter's (pyproject.toml).
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES, STATEMENTS = 300, 40
_VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}
_UNSAFE = re.compile(r"strict=False\b.*load|load.*strict=False|allow_pickle=True|weights_only=False|\bpickle\.load")
_WITHOUT_A_ROOM = {Path(), Path("contracts"), Path("docker"), Path("layouts")}  # what these test is no room of the package


def statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The statements of a function, without its docstring and without those of functions inside it."""
    count, todo = 0, list[ast.AST](function.body[1:] if ast.get_docstring(function) is not None else function.body)
    while todo:
        node = todo.pop()
        count += isinstance(node, ast.stmt)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(node))
    return count


def too_large(text: str) -> Iterator[str]:
    """Of any file: its length, and its functions."""
    if (lines := len(text.splitlines())) >= LINES:
        yield f"{lines} lines, {LINES} or more"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (count := statements(node)) >= STATEMENTS:
            yield f"{node.name} has {count} statements, {STATEMENTS} or more"


def undocumented(text: str, private: bool) -> Iterator[str]:
    """Of a module: itself, and unless the module is private the functions and classes that it offers."""
    module = ast.parse(text)
    if not ast.get_docstring(module):
        yield "the module has no docstring"
    for node in [] if private else module.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_") or node.name == "Config":
            continue
        if not ast.get_docstring(node):
            yield f"{node.name} has no docstring"


def inherited_deeply(text: str) -> Iterator[str]:
    """Classes whose parent, in the same module, has a parent there itself."""
    classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    for node in classes.values():
        parents = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
        for parent in parents:
            if any(isinstance(base, ast.Name) and base.id in classes for base in parent.bases):
                yield f"{node.name} inherits through {parent.name}"


def unsafe(text: str) -> Iterator[str]:
    """Lines that load what could run code, or that load weights without comparing their names."""
    for number, line in enumerate(text.splitlines(), 1):
        if _UNSAFE.search(line):
            yield f"line {number} loads unsafely or silently: {line.strip()}"


def misplaced(root: Path) -> Iterator[str]:
    """Files with a name that says nothing, and folders of tests that mirror no room of the package."""
    rooms = {folder.relative_to(root / "medssl") for folder in (root / "medssl").rglob("*") if folder.is_dir()} | _WITHOUT_A_ROOM
    for file in _sources(root):
        name = file.relative_to(root)
        if file.stem in _VAGUE:
            yield f"{name}: no file is called {file.stem}"
        if name.parts[0] == "tests" and name.parent.relative_to("tests") not in rooms:
            yield f"{name}: the package has no room {name.parent.relative_to('tests')}"


def unlocked(lock: str) -> Iterator[str]:
    """Requirements without an exact version or a hash, and addresses: hosts differ from site to site."""
    for entry in re.split(r"\n(?=[a-z0-9])", lock.strip()):
        if "==" not in entry or "--hash=sha256:" not in entry:
            yield f"{entry.split()[0]} has no version or no hash"
    if "://" in lock:
        yield "there is an address"


def offences(root: Path = ROOT) -> Iterator[str]:
    """All of a checkout, each as one line that names the file."""
    yield from misplaced(root)
    yield from (f"requirements.lock: {offence}" for offence in unlocked((root / "requirements.lock").read_text("utf-8")))
    for file in _sources(root):
        name, text = file.relative_to(root), file.read_text("utf-8")
        found = [*too_large(text)]
        if name.parts[0] == "medssl":
            private = file.stem.startswith("_") and not file.stem.startswith("__")
            found += [*undocumented(text, private), *inherited_deeply(text), *unsafe(text)]
        yield from (f"{name}: {offence}" for offence in found)


def _sources(root: Path) -> list[Path]:
    return [file for room in ("medssl", "pipelines", "benchmarks", "tests") for file in sorted((root / room).rglob("*.py"))]


if __name__ == "__main__":
    sys.exit("\n".join(offences()) or None)
