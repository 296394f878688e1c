"""What the tests of served models share."""

from pathlib import Path
from typing import Any

import pytest

from medssl.evaluate.models import classifier_file, served


@pytest.fixture(scope="module")
def written(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier as a folder of MLflow, written once."""
    folder = tmp_path_factory.mktemp("mlflow") / "classifier"
    served.write(*classifier_file.load(model.folder), folder)
    return folder
