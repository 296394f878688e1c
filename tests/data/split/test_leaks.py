"""What is found in several of train, val and test, and what the policy makes of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medssl.config import Data
from medssl.data.image_hash import dhash
from medssl.data.split import Leaks, find_leaks
from medssl.data.split.leaks import FLAT, apply_leak_policy
from medssl.errors import UserError

ROLES = np.array(["train", "train", "val", "test", "test"])


def a_table(**columns: list[str]) -> pd.DataFrame:
    """Five images of five patients that have nothing in common but what `columns` says."""
    own = {name: [f"{name}{row}" for row in range(5)] for name in ("patient", "study", "pixel_hash")}
    return pd.DataFrame({**own, "label:finding": ["sick", "well", "sick", "well", "sick"], **columns})


def leaks_of(table: pd.DataFrame, images: np.ndarray | None = None, roles: np.ndarray = ROLES) -> Leaks:
    return find_leaks(table, np.zeros((5, 1, 16, 16), np.uint8) if images is None else images, roles)


def test_nothing_in_common_is_no_leak() -> None:
    leaks = leaks_of(a_table())
    assert not leaks.certain and leaks.sentences() == [] and set(leaks.counts().values()) == {0}


@pytest.mark.fault("L1")
def test_a_patient_in_three_splits_is_one_patient_and_its_lower_rows_point_to_the_test_row() -> None:
    leaks = leaks_of(a_table(patient=["p", "q", "p", "p", "r"]))
    assert leaks.patients.tolist() == [[0, 3], [2, 3]]
    assert leaks.counts()["patients"] == 1


@pytest.mark.fault("L1")
def test_one_study_under_two_patients_is_found_and_one_under_one_patient_is_not_told_twice() -> None:
    leaks = leaks_of(a_table(study=["s", "t", "u", "s", "t"], patient=["a", "b", "c", "d", "b"]))
    assert leaks.studies.tolist() == [[0, 3]]
    assert leaks.patients.tolist() == [[1, 4]]


@pytest.mark.fault("L2")
def test_equal_pixels_in_two_splits_are_found_and_in_one_split_are_not() -> None:
    assert leaks_of(a_table(pixel_hash=["x", "y", "z", "x", "w"])).pixels.tolist() == [[0, 3]]
    assert leaks_of(a_table(pixel_hash=["x", "x", "z", "w", "w"])).pixels.tolist() == []


def test_equal_pixels_with_different_labels_contradict_each_other_in_any_split() -> None:
    leaks = leaks_of(a_table(pixel_hash=["x", "x", "y", "z", "y"], **{"label:finding": ["sick", "well", "sick", "", "sick"]}))
    assert leaks.contradictions.tolist() == [[0, 1]]
    assert leaks.rows.tolist() == [2]  # of the contradicting ones none: both are in train


@pytest.mark.fault("L3")
def test_a_resized_copy_in_another_split_is_told_and_neither_stops_a_run_nor_is_dropped() -> None:
    original = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
    copy = np.asarray(Image.fromarray(original).resize((61, 61)).resize((64, 64)))
    others = np.random.default_rng(1).integers(0, 256, (3, 8, 8), np.uint8).repeat(8, 1).repeat(8, 2)
    images = np.stack([original, *others, copy])[:, None]
    leaks = leaks_of(a_table(perceptual_hash=[f"{dhash(image):016x}" for image in images]), images)
    assert leaks.near.tolist() == [[0, 4]]
    assert "near duplicates" in leaks.sentences()[0]
    for policy in ("refuse", "drop", "allow"):
        assert apply_leak_policy(leaks, ROLES, policy).tolist() == ROLES.tolist()


@pytest.mark.fault("L1", "L2")
def test_the_policy_refuses_or_drops_or_allows() -> None:
    leaks = leaks_of(a_table(patient=["p", "q", "r", "p", "s"], pixel_hash=["a", "b", "x", "c", "x"]))
    with pytest.raises(UserError, match=r"1 patients.*rows 0 and 3.*1 images.*rows 2 and 4.*--set data\.leaks=drop"):
        apply_leak_policy(leaks, ROLES, "refuse")
    assert apply_leak_policy(leaks, ROLES, "drop").tolist() == ["", "train", "", "test", "test"]
    assert apply_leak_policy(leaks, ROLES, "allow").tolist() == ROLES.tolist()


@pytest.mark.parametrize("policy", ["refuse", "drop", "allow"])
def test_a_flat_image_that_is_also_in_the_test_is_left_out_and_accuses_nobody(policy: str) -> None:
    leaks = leaks_of(a_table(pixel_hash=["x", "y", "z", "x", "w"], perceptual_hash=[FLAT, "", "", FLAT, ""]))
    assert not leaks.certain
    assert apply_leak_policy(leaks, ROLES, policy).tolist() == ["", "train", "val", "test", "test"]


def test_rows_that_are_left_out_already_are_in_no_split() -> None:
    assert (
        leaks_of(a_table(patient=["p", "q", "r", "p", "s"]), roles=np.array(["", "train", "val", "test", "test"])).patients.tolist() == []
    )


@pytest.mark.fault("S8", "L1")
def test_sentences_hold_counts_and_rows_and_no_key() -> None:
    text = " ".join(leaks_of(a_table(patient=["DOE", "q", "r", "DOE", "s"], pixel_hash=["SECRET", "b", "c", "SECRET", "d"])).sentences())
    assert "DOE" not in text and "SECRET" not in text
    assert "rows 0 and 3" in text


def stored(file: Path, cache: Path) -> tuple[pd.DataFrame, np.ndarray]:
    from medssl.data.prepare import prepare
    from medssl.data.sources import medmnist

    store = prepare(medmnist.build(medmnist.Config(), str(file)), Data(size=28), cache)
    return store.table, np.asarray(store.images)


@pytest.mark.slow
@pytest.mark.fault("L2")
def test_pneumoniamnist_has_eight_val_images_among_ten_of_train(shared_data: Path, tmp_path: Path) -> None:
    table, images = stored(shared_data / "medmnist/pneumoniamnist.npz", tmp_path)
    roles = table["split"].to_numpy(str)
    pixels = find_leaks(table, images, roles).pixels
    train, val = pixels[(roles[pixels] == ("train", "val")).all(axis=1)].T
    assert (len(train), len({images[row].tobytes() for row in val})) == (10, 8)  # counted by comparing the arrays of the file


@pytest.mark.fault("L2")
def test_breastmnist_has_one_image_in_train_and_test_with_opposite_labels(shared_data: Path, tmp_path: Path) -> None:
    table, images = stored(shared_data / "medmnist/breastmnist.npz", tmp_path)
    roles = table["split"].to_numpy(str)
    leaks = find_leaks(table, images, roles)
    assert roles[leaks.pixels].tolist() == [["train", "test"]]
    assert leaks.contradictions.tolist() == leaks.pixels.tolist()
    assert set(table["label:label"].to_numpy(str)[leaks.pixels[0]]) == {"malignant", "normal, benign"}
    assert "" not in apply_leak_policy(leaks, roles, "drop")[roles == "test"]


def test_of_many_images_near_duplicates_are_looked_for_among_some_of_val_and_test_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    original = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
    images = np.stack([original] * 5)[:, None]
    table = a_table(perceptual_hash=[f"{dhash(image):016x}" for image in images])
    assert leaks_of(table, images).unsearched == 0
    assert len(leaks_of(table, images).near) == 8  # of two in train with three, and of one in val with two
    monkeypatch.setattr("medssl.data.split.leaks._COMPARED", 3)  # three of lower splits with one of three
    leaks = leaks_of(table, images)
    assert leaks.near.tolist() == [[0, 2], [1, 2]]
    assert leaks.unsearched == 2
    assert "near duplicates of 2 images of val and test were not searched" in leaks.sentences()[-1]
