"""A file is whole or not there, whatever happens while it is written; and all that a run leaves is written in that way."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from kills import folders_left
from surroundings import fill, small_disk

from medssl.errors import UserError
from medssl.evaluate.results import Results
from medssl.evaluate.schema import ResultsDocument, Splits
from medssl.files import atomic_file, is_draft, write_atomically

ROOT = Path(__file__).parents[1]
OLD, NEW = b"old" * 9, b"new" * 99
STUDY = Results(
    ResultsDocument.model_construct(format=2),
    pd.DataFrame({"key": ["a", "b"], "prob_sick": [0.25, 0.5]}),
    Splits(sha256="", column="finding", test=("a", "b"), draws={}),
)


def write_over(folder: Path) -> None:
    write_atomically(folder / "file", NEW)


def write_study(folder: Path) -> None:
    STUDY.write(folder)


def test_a_file_has_its_name_only_at_the_end(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as file:
        file.write(NEW)
        assert not path.exists()
        (draft,) = tmp_path.iterdir()
        assert is_draft(draft)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == NEW
    assert not is_draft(path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_while_it_is_written_leaves_the_old_file_and_no_scrap(tmp_path, error):
    write_atomically(tmp_path / "file", OLD)
    with pytest.raises(error), atomic_file(tmp_path / "file") as file:
        file.write(NEW)
        raise error
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert (tmp_path / "file").read_bytes() == OLD


@pytest.mark.slow
@pytest.mark.fault("R24")
def test_wherever_the_writing_is_killed_a_reader_finds_the_old_files_or_the_new_ones(tmp_path):
    """And of a study's three files, results.json is there only where the two others are."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_bytes(OLD)
    (tmp_path / "study").mkdir()
    one, study = folders_left(
        __file__, ("write_over", tmp_path / "one", "medssl/files"), ("write_study", tmp_path / "study", "medssl/files")
    )
    found = [(folder / "file").read_bytes() for folder in one]
    assert found == sorted(found, reverse=True)
    assert set(found) == {OLD, NEW}
    write_study(tmp_path / "study")
    ready = {path.name: path.read_bytes() for path in (tmp_path / "study").iterdir()}
    assert len(ready) == 3
    for folder in study:
        there = {path.name: path.read_bytes() for path in folder.iterdir() if not is_draft(path)}
        assert there.items() <= ready.items()
        assert "results.json" not in there or there == ready
        write_study(folder)
        assert {path.name for path in folder.iterdir() if not is_draft(path)} == set(ready), "given again it completes"


@pytest.mark.fault("R5")
def test_a_full_disk_is_told_with_its_free_space_and_the_old_file_stays(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=400) as disk:
        write_atomically(disk / "file", OLD)
        filler = fill(disk)
        with pytest.raises(UserError, match=rf"Cannot write {disk}/file as user {os.getuid()}: No space left on device\. 0\.0 MB are free"):
            write_atomically(disk / "file", bytes(50_000))
        filler.unlink()
        assert list(disk.iterdir()) == [disk / "file"]
        with pytest.raises(UserError, match=r"0\.4 MB are free there; make space"):
            write_atomically(disk / "file", bytes(500_000))
        assert (disk / "file").read_bytes() == OLD
        write_atomically(disk / "file", bytes(50_000))


def test_processes_that_write_one_file_at_the_same_time_do_not_mix_it(tmp_path):
    code = (
        "import pathlib, sys; from medssl.files import write_atomically\n"
        "for _ in range(200): write_atomically(pathlib.Path(sys.argv[1]), sys.argv[2].encode() * 100_000)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "file"), letter]) for letter in "ab"]
    seen = set()
    while any(process.poll() is None for process in running):
        if (tmp_path / "file").exists():
            seen.add((tmp_path / "file").read_bytes())
    assert [process.returncode for process in running] == [0, 0]
    assert seen == {b"a" * 100_000, b"b" * 100_000}
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def written_in_place(code: str) -> list[int]:
    """The lines that write a file under its own name: write_text, write_bytes, open with a mode that makes or empties it."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            modes = [value.value for value in node.args if isinstance(value, ast.Constant) and isinstance(value.value, str)]
            opened = node.func.attr == "open" and any(mode[:1] in ("w", "x") for mode in modes)
            if node.func.attr in ("write_text", "write_bytes") or opened:
                found.append(node.lineno)
    return found


# What else is opened for writing, and is no file of a run
OTHERS = {
    "medssl/tracking/mlflow_client.py": "the lock of the MLflow store",
    "medssl/train/memory.py": "a switch of the kernel in /proc",
    "medssl/doctor/benchmark.py": "a key of its own in a temporary folder",
    "medssl/studies/executor.py": "what a job says, beside its run folder",
    "medssl/evaluate/models/served.py": "a model in a temporary folder, which is sent to MLflow",
    "medssl/tracking/mlflow_models.py": "a model in a temporary folder, which is sent to MLflow",
}


@pytest.mark.fault("R24")
def test_nothing_in_a_run_folder_is_written_in_place():
    """metrics.jsonl grows, line by line."""
    assert written_in_place("a.write_text(b)\nc.open('wb')\nd.open('rb')\ne.open('a')\nopen(f)\n") == [1, 2]
    rooms = ("encoder", "evaluate", "run", "tracking", "train", "views")
    drafts = ROOT / "medssl/encoder/export"  # a draft, which is moved to its place when it is complete
    files = [file for room in rooms for file in sorted((ROOT / "medssl" / room).rglob("*.py")) if drafts not in file.parents]
    found = {str(file.relative_to(ROOT)): lines for file in files if (lines := written_in_place(file.read_text("utf-8")))}
    assert not found.keys() - OTHERS.keys()
    assert all(len(lines) <= 2 for lines in found.values())
