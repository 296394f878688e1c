"""A test that is not what was asked for is told: its share of patients and images, and classes that are on one side."""

import numpy as np
import pandas as pd
import pytest

from medssl.data.split import assign_roles, describe_test


def table_of(patients: list[str], **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"patient": patients, "split": "", "pixel_hash": [f"{n}" for n in range(len(patients))], **columns})


def said(table: pd.DataFrame, columns: list[str], seed: int = 0) -> list[str]:
    return describe_test(table, columns, assign_roles(table, columns[0] if columns else "", seed, 0.2), 0.2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("number", [2, 5, 30, 100])
def test_of_a_test_that_is_as_asked_nothing_is_said(number: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    patients = [f"p{n}" for n in range(number) for _ in range(random.integers(1, 4))]
    assert said(table_of(patients), [], seed) == []
    classes = [("sick", "well")[int(name[1:]) % 2] for name in patients]
    assert number < 4 or said(table_of(patients, **{"label:label": classes}), ["label"], seed) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_patient_with_half_of_the_images_is_told(seed: int) -> None:
    table = table_of(["much"] * 40 + [f"p{n}" for n in range(40)])
    (sentence,) = said(table, [], seed)
    tested = assign_roles(table, "", seed, 0.2) == "test"
    assert f"and {tested.mean():.0%} of the images, where data.test_fraction asks for 20%" in sentence
    assert "One of the 41 patients has 50% of the images" in sentence


@pytest.mark.parametrize("seed", range(3))
def test_patients_who_share_a_placeholder_picture_are_told(seed: int) -> None:
    table = table_of([f"p{n // 2}" for n in range(80)])
    table.loc[::4, "pixel_hash"] = "placeholder"
    (sentence,) = said(table, [], seed)
    assert "20 of 40 patients are linked by equal pictures or a study" in sentence


def test_a_class_on_one_side_is_told_by_name() -> None:
    table = table_of([f"p{n}" for n in range(11)], **{"label:label": ["rare"] + ["sick", "well"] * 5})
    assert said(table, ["label"]) == [
        "The class 'rare' of 'label' has 1 patients, 0 of them in the test and 1 in training: it cannot be learnt and tested."
    ]


def test_of_a_split_that_comes_with_the_data_nothing_is_said() -> None:
    table = table_of(["a", "b", "c", "d"]).assign(split=["train", "train", "train", "test"])
    assert describe_test(table, [], table["split"].to_numpy(str), 0.9) == []
