"""Folders that are persons, and the setting that says what folders stand for."""

from pathlib import Path

import pytest

from medssl.data.folder_layout import understand_volumes
from medssl.data.person_names import are_named_like_persons
from medssl.data.sources import folder
from medssl.errors import UserError
from medssl.types import Source

PERSONS = ["Mustermann_Max", "Schmidt, Anna", "Meier-Graf Karl", "Weber_Ute_1967", "García_José"]


def built(root: Path, names: list[str], each: int, folders: str = "auto") -> Source:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            (root / name / f"{number}.png").touch()
    return folder.build(folder.Config.model_validate({"folders": folders}), str(root))


def told(source: Source, names: list[str]) -> list[str]:
    return [name for name in names for note in source.notes if name in note]


@pytest.mark.fault("S21")
@pytest.mark.parametrize(
    ("names", "each"), [(PERSONS, 12), ([f"P{n:02}" for n in range(1, 31)], 12), ([f"{chr(97 + n)}x-{n}" for n in range(15)], 12)]
)
def test_folders_that_look_like_persons_are_patients_and_neither_told_nor_a_class(tmp_path: Path, names: list[str], each: int) -> None:
    source = built(tmp_path, names, each)
    assert {record.patient for record in source.records} == set(names)
    assert not [record.labels for record in source.records if record.labels]
    assert not told(source, names)
    assert "if these folders are classes and no patients: --set data.source.folders=classes" in source.notes


@pytest.mark.fault("S21")
def test_two_folders_of_persons_are_neither_and_the_setting_is_named(tmp_path: Path) -> None:
    source = built(tmp_path, PERSONS[:2], 12)
    assert {(record.patient, len(record.labels)) for record in source.records} == {(None, 0)}
    assert not told(source, PERSONS)
    assert "--set data.source.folders=classes or --set data.source.folders=patients" in source.notes[-1]


@pytest.mark.parametrize(
    "names",
    [
        ["COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"],
        ["Mild_Demented", "Moderate_Demented", "Non_Demented", "Very_Mild_Demented"],
        ["Actinic Keratosis", "Basal Cell Carcinoma", "Benign Keratosis", "Melanocytic Nevi", "Vascular Lesion"],
        ["Bacterial Pneumonia", "Pleural_Effusion", "No Finding"],
        ["Bengin cases", "Malignant cases", "Normal cases"],
        ["dyed-lifted-polyps", "normal-cecum", "ulcerative-colitis"],
    ],
)
def test_classes_of_two_words_as_published_sets_have_them_are_no_persons(names: list[str]) -> None:
    assert not are_named_like_persons(names)


@pytest.mark.parametrize("names", [PERSONS, ["ill", "well"], ["1234", "5678", "9012"]])
def test_the_setting_decides_what_folders_are(tmp_path: Path, names: list[str]) -> None:
    classes = built(tmp_path, names, 3, "classes")
    assert {record.labels["label"] for record in classes.records} == set(names)
    assert {record.patient for record in classes.records} == {None}
    patients = built(tmp_path, names, 3, "patients")
    assert {record.patient for record in patients.records} == set(names)
    assert {(len(record.labels), record.patient_from) for record in patients.records} == {(0, "data")}
    nothing = built(tmp_path, names, 3, "none")
    assert {(len(record.labels), record.patient) for record in nothing.records} == {(0, None)}


def test_images_outside_the_folders_have_no_patient_and_splits_stay_splits(tmp_path: Path) -> None:
    built(tmp_path, ["train/a", "train/b", "test/c"], 2)
    source = built(tmp_path, ["train"], 1, "patients")
    by_name = {record.locator: (record.split, record.patient) for record in source.records}
    assert by_name["train/a/1.png"] == ("train", "a")
    assert by_name["test/c/0.png"] == ("test", "c")
    assert by_name["train/0.png"] == ("train", None)


def test_the_setting_holds_for_volumes(tmp_path: Path) -> None:
    files = [f"{name}/{n}.nii" for name in ("t1", "t2") for n in range(30)]
    assert set(understand_volumes(files, "patients").patients) == {"t1", "t2"}
    assert set(understand_volumes(files, "classes").classes) == {"t1", "t2"}
    nothing = understand_volumes(files, "none")
    assert set(nothing.classes) == {None}
    assert list(nothing.patients) == files


def test_another_word_is_refused() -> None:
    with pytest.raises((UserError, ValueError), match="folders"):
        folder.Config.model_validate({"folders": "persons"})
