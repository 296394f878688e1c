"""Predictions read again: matched by key, and refused where they do not belong to the results beside them."""

import numpy as np
import pandas as pd
import pytest
from compared import FLAT, RIGHT, a_document, predictions, with_changes, write_run

from medssl.compare import Run
from medssl.errors import UserError
from medssl.evaluate.predictions import read_predictions
from medssl.evaluate.schema import PREDICTIONS, ResultsDocument

ALL = "100pct", "linear", "pretrained"


def read(folder, drawn):
    found = write_run(folder, {"pretrained": {"100pct": drawn}}).predictions
    assert found is not None
    return found


def results(drawn):
    return ResultsDocument.model_validate(a_document(drawn))


def test_images_are_matched_by_key_and_not_by_their_place_in_the_file(tmp_path):
    first = read(tmp_path / "a", [RIGHT])
    table = pd.read_parquet(tmp_path / "a" / "predictions.parquet")
    table.iloc[::-1].to_parquet(tmp_path / PREDICTIONS, index=False)
    again = read_predictions(tmp_path, results({"pretrained": {"100pct": [RIGHT]}}))
    assert again is not None and again.test == first.test
    assert np.array_equal(again.draws[ALL][0], first.draws[ALL][0]) and np.array_equal(again.y, first.y)


@pytest.mark.parametrize(("change", "value"), [("patient", "z"), ("key", "key9"), ("y_true", "sick")])
def test_another_patient_image_or_truth_is_another_test(tmp_path, change, value):
    drawn = {"pretrained": {"100pct": [FLAT]}}
    table = predictions(drawn).reset_index(drop=True)
    table.loc[0, change] = value
    if change == "y_true":
        table.loc[7, change] = "normal"  # as many of each class as before
    table.to_parquet(tmp_path / PREDICTIONS, index=False)
    other = read_predictions(tmp_path, results(drawn))
    assert other is not None and other.test != read(tmp_path / "a", [FLAT]).test


def test_a_run_without_predictions_or_with_several_labels_has_none_to_compare(tmp_path):
    run = write_run(tmp_path / "a", {"pretrained": {"100pct": [RIGHT]}})
    assert read_predictions(tmp_path, run.document) is None
    several = with_changes(run, {"task": {"kind": "multilabel"}})
    assert Run.read(tmp_path / "a", several.document).predictions is None


def test_of_several_labels_each_has_its_own_truth_and_a_label_that_is_not_known_is_left_out(tmp_path):
    """The images of label a are ranked right, those of label b whose truth is known are ranked wrong: (1 + 0) / 2."""
    who = {"key": ["k2", "k1", "k3"], "patient": ["p", "p", "q"], "labels": "100pct", "mode": "linear", "init": "pretrained", "draw": 0}
    label_a, label_b = {"true_a": [0, 1, 1], "prob_a": [0.1, 0.8, 0.9]}, {"true_b": [0, 1, -1], "prob_b": [0.7, 0.6, 0.2]}
    pd.DataFrame({**who, **label_a, **label_b}).to_parquet(tmp_path / PREDICTIONS)
    document = a_document({"pretrained": {"100pct": [RIGHT]}})
    document["task"] |= {"kind": "multilabel", "classes": [{"name": "a", "pool": 9, "test": 2}, {"name": "b", "pool": 9, "test": 1}]}
    document["summary"][0]["auroc"] = {"mean": 0.5, "low": None, "high": None}  # two patients have no interval
    found = read_predictions(tmp_path, ResultsDocument.model_validate(document))
    assert found is not None and found.keys.tolist() == ["k1", "k2", "k3"]
    assert found.y.tolist() == [[1, 1], [0, 0], [1, -1]]
    assert found.draws[ALL][0].tolist() == [[0.8, 0.6], [0.1, 0.7], [0.9, 0.2]]


DAMAGES = {
    "not parquet": (lambda path, table: path.write_bytes(b"PAR1 half"), "is damaged"),
    "a column lost": (lambda path, table: table.drop(columns="prob_sick").to_parquet(path), "is damaged"),
    "a class unknown": (lambda path, table: table.replace("sick", "ill").to_parquet(path), "is damaged"),
    "an image twice": (lambda path, table: pd.concat([table, table.iloc[:1]]).to_parquet(path), "is damaged"),
    "not a number": (lambda path, table: table.assign(prob_sick=np.nan).to_parquet(path), "is damaged"),
    "another run's": (lambda path, table: table.assign(prob_sick=FLAT).to_parquet(path), "other scores than the results.json"),
    "nothing in it": (lambda path, table: table.iloc[:0].to_parquet(path), "is damaged"),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_predictions_that_are_damaged_or_of_another_run_are_refused_by_name(tmp_path, fault):
    drawn = {"pretrained": {"100pct": [RIGHT]}}
    spoil, expected = DAMAGES[fault]
    path = tmp_path / PREDICTIONS
    spoil(path, predictions(drawn))
    with pytest.raises(UserError, match=expected) as error:
        read_predictions(tmp_path, results(drawn))
    assert str(path) in str(error.value)
