"""The cells of a table of predictions, written out by hand."""

import numpy as np

from medssl.evaluate.prediction_table import table_cells, table_columns


def test_of_classes_the_likeliest_is_said_unless_it_is_too_unlikely():
    assert table_columns("multiclass", ["no", "yes"]) == [
        "prob_no",
        "prob_yes",
        "prediction",
        "confidence",
        "abstained",
        "out_of_distribution",
    ]
    prob = np.array([0.25, 0.75])
    assert table_cells("multiclass", ["no", "yes"], prob, 0.5, 0.75) == (
        ["0.250000", "0.750000", "yes", "0.750000", "false", "0.500000"],
        False,
    )
    assert table_cells("multiclass", ["no", "yes"], prob, 1.0, 0.76) == (["0.250000", "0.750000", "", "0.750000", "true", "1.000000"], True)


def test_each_label_is_decided_for_itself():
    names = ["prob_a", "prob_b", "prediction_a", "confidence_a", "abstained_a", "prediction_b", "confidence_b", "abstained_b"]
    assert table_columns("multilabel", "ab") == [*names, "out_of_distribution"]
    cells, is_open = table_cells("multilabel", "ab", np.array([0.125, 0.625]), 0.0, 0.8)
    assert cells == ["0.125000", "0.625000", "absent", "0.875000", "false", "", "0.625000", "true", "0.000000"]
    assert is_open
    assert table_cells("multilabel", "ab", np.array([0.125, 0.9]), 0.0, 0.8).cells[5] == "present"
