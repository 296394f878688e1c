"""Who stays together in our own splits, and how several findings of a patient are balanced."""

import numpy as np
import pandas as pd
import pytest

from medssl.data.split import assign_roles, choose_holdout, find_leaks
from medssl.data.split.assignment import group_patients


def linked_table(seed: int) -> pd.DataFrame:
    """200 images of 80 patients; some share a study, some the pixels of an image."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"patient": [f"{number:04x}" for number in random.integers(0, 80, 200)], "split": ""})
    table["study"] = np.where(random.random(200) < 0.1, np.char.add("s", random.integers(0, 8, 200).astype(str)), "")
    pixels = np.char.add("x", random.integers(0, 15, 200).astype(str))
    table["pixel_hash"] = np.where(random.random(200) < 0.1, pixels, np.char.add("own", np.arange(200).astype(str)))
    return table.assign(**{"label:finding": np.array(["sick", "well"])[random.integers(0, 2, 200)]})


@pytest.mark.fault("L1", "L2")
@pytest.mark.parametrize("seed", range(10))
def test_no_patient_study_or_picture_stands_on_two_sides_of_our_own_split(seed: int) -> None:
    table = linked_table(seed)
    roles = assign_roles(table, "finding", seed, 0.2)
    roles = np.where(choose_holdout(table, roles, "finding", seed, 0.1), "val", roles)
    assert set(roles) == {"train", "val", "test"}
    assert not find_leaks(table, np.zeros((200, 1, 16, 16), np.uint8), roles).certain


def test_links_reach_over_several_patients_and_flat_pictures_link_nobody() -> None:
    table = pd.DataFrame({"patient": ["d", "c", "b", "b", "a", "e", "f"], "study": ["s", "s", "", "", "", "", ""]})
    table["pixel_hash"] = ["1", "x", "x", "2", "3", "black", "black"]
    assert group_patients(table).tolist() == ["b", "b", "b", "b", "a", "e", "e"]
    table["perceptual_hash"] = ["1", "1", "1", "1", "1", "0" * 16, "0" * 16]
    assert group_patients(table).tolist() == ["b", "b", "b", "b", "a", "e", "f"]


def test_a_test_set_drawn_beside_official_val_images_takes_nobody_linked_to_them() -> None:
    table = pd.DataFrame({"patient": [f"p{i}" for i in range(20)], "pixel_hash": [f"x{i // 2}" for i in range(20)]})
    table["split"] = ["val" if i < 10 and i % 2 else "train" for i in range(20)]
    for seed in range(10):
        roles = assign_roles(table, "", seed, 0.4)
        assert (roles[:10:2] == "train").all() and (roles[10:] == "test").sum() == 4


def nih_like(seed: int, power: float) -> pd.DataFrame:
    """2000 patients, 14 findings whose prevalence falls from 24 % by a power law, two patients of five without any."""
    random = np.random.default_rng(seed)
    has = (random.random((2000, 14)) < 0.4 / np.arange(1, 15) ** power) & (random.random((2000, 1)) > 0.4)
    return pd.DataFrame(
        {"patient": [f"{i:08x}" for i in range(2000)], "split": "", **{f"label:{k:02}": np.where(has[:, k], "1", "0") for k in range(14)}}
    )


def worst_share(table: pd.DataFrame, tested: np.ndarray) -> float:
    """How far from 0.2 the test's share of a finding's patients is, for the worst finding of 20 patients or more."""
    has = table.filter(like="label:").to_numpy() == "1"
    common = has.sum(axis=0) >= 20
    return float(np.abs(has[tested].sum(axis=0)[common] / has.sum(axis=0)[common] - 0.2).max())


@pytest.mark.parametrize("power", [0.8, 1.0, 1.2])
def test_every_finding_of_20_patients_has_its_share_in_the_test_set_within_a_tenth(power: float) -> None:
    ours, random = [], []
    for seed in range(10):
        table = nih_like(seed, power)
        tested = assign_roles(table, "", seed, 0.2) == "test"
        ours.append(worst_share(table, tested))
        random.append(worst_share(table, np.random.default_rng(seed).permutation(2000) < 400))
        assert abs(tested.sum() - 400) <= 8  # 15 strata, each rounded to half a patient
    assert max(ours) <= 0.1
    assert np.mean(ours) < np.mean(random) / 1.5


def test_one_chosen_column_of_several_findings_is_stratified_by_itself() -> None:
    table = nih_like(0, 1.2)
    positive = table["label:05"] == "1"
    tested = assign_roles(table, "05", 0, 0.2) == "test"
    assert abs(tested[positive].sum() - 0.2 * positive.sum()) <= 0.5


def test_patients_whose_findings_nobody_read_stay_in_train() -> None:
    table = nih_like(0, 1.0)
    table.loc[:99, table.columns.str.startswith("label:")] = ""
    assert (assign_roles(table, "", 0, 0.2)[:100] == "train").all()
