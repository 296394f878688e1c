"""What MLflow may be told, and what an error may say."""

import pytest

from medssl.config import resolve
from medssl.tracking.mlflow_client import first_line, public_params, without_password


def test_public_params_leave_out_the_data_path_and_every_absolute_path():
    config = resolve(
        {
            "data": {"path": "relative/folder", "source": {"name": "folder", "table": "/canary/labels.csv"}},
            "backbone": {"name": "timm", "arguments": {"files": ["~/canary", "x"], "depth": 3}},
            "preset": "C:\\canary\\own.yaml",
            "train": {"lr": 0.5},
        }
    )
    params = public_params(config)
    assert "data.path" not in params
    assert not [text for text in params.values() if "canary" in text or "relative" in text]
    assert params["train.lr"] == "0.5"
    assert params["method.name"] == "pnnclr"
    assert params["backbone.arguments.depth"] == "3"
    assert params["method.stop_gradient"] == "false"


@pytest.mark.parametrize("who", ["user:secret@", "user:se@secret@", ":secret@", "secret@"])
def test_a_password_in_an_address_is_in_no_message(who):
    assert without_password(f"https://{who}host:5000/mlflow") == "https://host:5000/mlflow"
    said = first_line(ConnectionError(f"no answer from http://{who}host:5000/api, nor from http://{who}other\nsecond line"))
    assert said == "no answer from http://host:5000/api, nor from http://other"
    assert without_password("sqlite:////data/a@b/mlflow.db") == "sqlite:////data/a@b/mlflow.db"


def test_an_error_without_words_is_named():
    assert first_line(TimeoutError()) == "TimeoutError"
