"""The note of a run (mlflow.json), where there must be one."""

from pathlib import Path

from medssl.tracking import note


def noted(folder: Path) -> note.Note:
    found = note.read(folder)
    assert found, folder
    return found
