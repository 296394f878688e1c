"""Which models of a run are sent to MLflow, and under which names."""

import json

import pytest

from medssl.config import resolve
from medssl.errors import UserError
from medssl.runs.models_to_track import models_to_track


@pytest.fixture
def run(tmp_path):
    (tmp_path / "classifier.json").write_text(json.dumps({"weights_sha256": "ab12", "size": 64}))
    return tmp_path


def names(run, **tracking):
    return [(model.name, model.digest, model.registered_name) for model in models_to_track(run, resolve({"tracking": tracking}))]


def test_a_run_has_the_models_whose_cards_it_holds(run):
    assert names(run) == [("classifier", "ab12", "")]
    (run / "card.json").write_text(json.dumps({"weights_sha256": "cd34"}))
    assert names(run) == [("encoder", "cd34", ""), ("classifier", "ab12", "")]


def test_a_model_is_registered_under_a_name_of_its_kind_only_if_that_is_asked_for(run):
    assert names(run, register_as="chest") == [("classifier", "ab12", "chest-classifier")]
    with pytest.raises(UserError, match="register_as"):
        names(run, register_as="chest/2")


@pytest.mark.parametrize("of_volumes", [{"pooling": "mean_max"}, {"pooling": "attention"}, {"size": [8, 16, 16]}])
def test_a_classifier_of_volumes_is_no_model_for_a_server(run, of_volumes):
    (run / "classifier.json").write_text(json.dumps({"weights_sha256": "ab12", "size": 64, **of_volumes}))
    assert names(run) == []


def test_without_models_nothing_is_sent(run):
    assert names(run, models=False) == []
