"""The note of a run (mlflow.json), where there must be one."""

from pathlib import Path

from medssl.tracking import mlflow_json


def noted(folder: Path) -> mlflow_json.MlflowInfo:
    found = mlflow_json.read(folder)
    assert found, folder
    return found
