"""Which classes, which rows may give labels, which are tested, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.evaluate.task import class_order, define_task, few_test_patients, label_columns, without_unanswerable


def a_table(labels: list[str], patients: list[str] | None = None, pixels: list[str] | None = None) -> pd.DataFrame:
    names = [f"p{i}" for i in range(len(labels))]
    return pd.DataFrame({"patient": patients or names, "pixel_hash": pixels or names, "label:finding": labels})


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["Pneumonia", "No_findings"], ("No_findings", "Pneumonia")),
        (["abnormal", "normal"], ("normal", "abnormal")),
        (["malignant", "normal, benign"], ("normal, benign", "malignant")),
        (["1", "0"], ("0", "1")),
        (["covid", "non-covid"], ("non-covid", "covid")),
        (["Effusion", "No Finding"], ("No Finding", "Effusion")),
        (["Effusion", "NoFinding"], ("NoFinding", "Effusion")),
        (["mass", "nodule"], ("mass", "nodule")),  # "nodule" begins with "no" and is no negative
        (["normal", "no finding"], ("no finding", "normal")),  # both say nothing was found: alphabetical
        (["RBC", "WBC", "Platelets"], ("Platelets", "RBC", "WBC")),
        (["normal", "bacterial", "viral"], ("bacterial", "normal", "viral")),
        (["10", "9", "1"], ("1", "9", "10")),
    ],
)
def test_the_abnormal_class_is_the_positive_one_and_the_rest_is_sorted(names: list[str], order: tuple[str, ...]) -> None:
    assert class_order(names) == order
    assert class_order(reversed(names)) == order


def test_unlabelled_and_validation_images_neither_give_labels_nor_are_tested() -> None:
    table = a_table(["sick", "normal", "", "sick", "normal", "", "normal"])
    task = define_task(table, ["finding"], np.array(["train", "train", "train", "test", "test", "test", "val"]))
    assert task.pool.tolist() == [0, 1] and task.test.tolist() == [3, 4]
    assert task.classes == ("normal", "sick")
    assert task.y.tolist() == [1, 0, -1, 1, 0, -1, 0]


@pytest.mark.fault("L1", "L2")
@pytest.mark.parametrize("column", ["pixels", "patients"])
@pytest.mark.parametrize("role", ["train", ""])
def test_a_training_image_of_a_test_patient_or_with_a_test_images_pixels_gives_no_label(column: str, role: str) -> None:
    table = a_table(["sick", "normal", "sick", "sick", "normal"], **{column: ["same", "b", "c", "same", "d"]})
    task = define_task(table, ["finding"], np.array([role, "train", "train", "test", "test"]))
    assert task.pool.tolist() == [1, 2] and task.copies == 1


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    ("labels", "roles", "message"),
    [
        (["sick", "sick", "sick"], ["train", "train", "test"], "All 2 training labels in 'finding' are 'sick'"),
        (["sick", "normal", "", ""], ["train", "train", "test", "test"], "0 for the test"),
        (["sick", "normal", "sick"], ["train", "train", "test"], "No test image has the class 'normal' of 'finding', which 1 others have"),
        (
            ["sick", "normal", "sick", "rare", "normal"],
            ["train", "train", "test", "test", "test"],
            "No training image has the class 'rare' of 'finding'",
        ),
    ],
)
def test_classes_that_cannot_be_learnt_or_tested_are_refused(labels: list[str], roles: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        define_task(a_table(labels), ["finding"], np.array(roles))


def test_the_only_label_column_needs_no_name_and_a_wrong_name_gets_the_nearest() -> None:
    table = a_table(["a"])
    assert label_columns(table) == label_columns(table, "finding") == ["finding"]
    with pytest.raises(UserError, match=r"no label column 'findin'.*Did you mean 'finding'"):
        label_columns(table, "findin")
    with pytest.raises(UserError, match=r"2 label columns: finding, view.*--label"):
        label_columns(table.assign(**{"label:view": "PA"}))
    with pytest.raises(UserError, match="no labels"):
        label_columns(table.drop(columns="label:finding"))


def several_labels(**columns: str) -> pd.DataFrame:
    """Columns of labels, a letter for each row: 1, 0, and - for not known."""
    rows = len(next(iter(columns.values())))
    labels = {f"label:{name}": ["" if letter == "-" else letter for letter in letters] for name, letters in columns.items()}
    return pd.DataFrame({"patient": [f"p{i}" for i in range(rows)], "pixel_hash": [f"h{i}" for i in range(rows)], **labels})


def test_columns_of_0_and_1_are_one_question_of_several_labels_and_what_is_not_known_is_masked() -> None:
    table = several_labels(mass="10-1010", effusion="0110011")
    assert label_columns(table) == ["mass", "effusion"] and label_columns(table, "effusion,mass") == ["effusion", "mass"]
    task = define_task(table, ["mass", "effusion"], np.array(["train"] * 4 + ["test"] * 3))
    assert (task.kind, task.classes, task.column) == ("multilabel", ("mass", "effusion"), "mass, effusion")
    assert task.y.T.tolist() == [[1, 0, -1, 1, 0, 1, 0], [0, 1, 1, 0, 0, 1, 1]]
    assert task.pool.tolist() == [0, 1, 2, 3] and task.test.tolist() == [4, 5, 6]


def test_a_column_that_says_more_than_0_and_1_cannot_stand_beside_others() -> None:
    table = several_labels(mass="10-1", view="2011")
    with pytest.raises(UserError, match="Label column 'view' has values other than 0 and 1"):
        label_columns(table, "mass,view")
    assert label_columns(table, "view") == ["view"]


def test_a_label_that_is_never_present_in_the_test_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="No test image has the class '1' of 'effusion', which 1 others have"):
        define_task(several_labels(mass="1010", effusion="0100"), ["mass", "effusion"], np.array(["train", "train", "test", "test"]))


def test_of_several_findings_one_that_cannot_be_learnt_or_tested_is_left_out_with_the_reason() -> None:
    table = several_labels(mass="100110", never="000000", rare="010000", masses="100110")
    roles = np.array(["train"] * 3 + ["test"] * 3)
    kept, sentences = without_unanswerable(table, ["mass", "never", "rare", "masses"], roles)
    assert kept == ["mass", "masses"]
    assert [sentence.split(",")[0] for sentence in sentences] == [
        "All 3 training labels in 'never' are '0'. Two classes are needed; is it the right column?",
        "No test image has the class '1' of 'rare'",
    ]
    assert define_task(table, kept, roles).classes == ("mass", "masses")
    assert without_unanswerable(table, ["never", "rare"], roles) == (["never", "rare"], []), "define_task says why"


@pytest.mark.parametrize(("patients", "said"), [(6, "only 6 patients (0 3, 1 3)"), (9, "only 9 patients (1 4)"), (10, ""), (40, "")])
def test_a_test_with_fewer_than_ten_patients_or_five_of_a_class_is_told(patients: int, said: str) -> None:
    rows = {"patient": [f"p{n}" for n in range(2 * patients)], "label:x": [str(n % 2) for n in range(2 * patients)]}
    table = pd.DataFrame({**rows, "pixel_hash": rows["patient"]})
    task = define_task(table, ["x"], np.repeat(["test", "train"], patients))
    assert said in few_test_patients(task) and bool(said) == bool(few_test_patients(task))
    assert "images" in few_test_patients(task, "images") or not said


def test_of_several_labels_patients_with_and_without_each_are_counted() -> None:
    rows = {
        "patient": [f"p{n}" for n in range(80)],
        "label:a": ["0", "0", "1", "1"] * 20,
        "label:b": ["1", "0", *["0", "1"] * 9, *["0", "0"] * 30],
    }
    table = pd.DataFrame({**rows, "pixel_hash": rows["patient"]})
    roles = np.array(["test", "train"] * 40)
    assert "(b 1)" in few_test_patients(define_task(table, ["a", "b"], roles))


def test_classes_are_in_order_where_the_user_says_so_and_there_are_more_than_two() -> None:
    table = a_table(["2", "10", "1"] * 2)
    roles = np.repeat(["train", "test"], 3)
    assert (task := define_task(table, ["finding"], roles, ordered=True)).kind == "ordinal" and task.classes == ("1", "2", "10")
    assert define_task(a_table(["0", "1"] * 2), ["finding"], np.repeat(["train", "test"], 2), ordered=True).kind == "multiclass"
