"""Patients, not images, are split and drawn."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from medssl.data.split import assign_roles, canonical_labels, choose_holdout, draw_by_class, parse_labels
from medssl.errors import UserError

SEEDS = range(25)


def random_table(seed: int) -> pd.DataFrame:
    """10 to 400 rows, one to six of each patient; 2 to 4 classes of very different size; some labels missing, some patients with two."""
    random = np.random.default_rng(seed)
    n, classes = int(random.integers(10, 400)), int(random.integers(2, 5))
    patients = np.repeat(np.arange(n), random.integers(1, 7, n))[:n]
    of_patient = random.choice(classes, n, p=random.dirichlet(np.ones(classes)))
    label = np.where(random.random(n) < 0.1, random.integers(0, classes, n), of_patient[patients])
    labels = np.where(random.random(n) < 0.1, "", np.char.add("class", label.astype(str)))
    return pd.DataFrame({"patient": [f"{p:08x}" for p in patients], "split": "", "label:finding": labels})


def plain_table(per_class: dict[str, int]) -> pd.DataFrame:
    """One image of each patient."""
    labels = [label for label, n in per_class.items() for _ in range(n)]
    return pd.DataFrame({"patient": [f"p{i:05d}" for i in range(len(labels))], "split": "", "label:finding": labels})


@pytest.mark.parametrize("seed", SEEDS)
def test_no_patient_is_in_two_splits(seed: int) -> None:
    table = random_table(seed)
    roles = assign_roles(table, "finding", seed, 0.2)
    side = np.where(choose_holdout(table, roles, "finding", seed, 0.1), "monitor", roles)
    assert len({(patient, one) for patient, one in zip(table["patient"], side, strict=True)}) == table["patient"].nunique()
    assert {"train", "test"} <= set(side)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_the_table_does_not_matter(seed: int) -> None:
    table = random_table(seed)
    shuffled = table.sample(frac=1, random_state=seed)
    by_row = pd.Series(assign_roles(table, "finding", 0, 0.2), table.index)
    by_shuffled_row = pd.Series(assign_roles(shuffled, "finding", 0, 0.2), shuffled.index)
    pd.testing.assert_series_equal(by_row, by_shuffled_row.loc[by_row.index])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_share_of_each_class_in_the_test_set_is_right_to_half_a_patient(seed: int) -> None:
    sizes = dict(zip("abc", np.random.default_rng(seed).integers(3, 200, 3).tolist(), strict=True))
    table = plain_table(sizes)
    test = Counter(table["label:finding"].to_numpy(str)[assign_roles(table, "finding", seed, 0.2) == "test"].tolist())
    for label, n in sizes.items():
        assert abs(test[label] - 0.2 * n) <= 0.5


def test_another_seed_tests_other_patients() -> None:
    table = plain_table({"a": 100, "b": 100})
    assert (assign_roles(table, "finding", 0, 0.2) == assign_roles(table, "finding", 0, 0.2)).all()
    assert (assign_roles(table, "finding", 0, 0.2) != assign_roles(table, "finding", 1, 0.2)).any()


def test_a_patient_added_later_moves_few_others() -> None:
    table = plain_table({"a": 500, "b": 500})
    grown = pd.concat([table, pd.DataFrame({"patient": ["new"], "split": [""], "label:finding": ["a"]})], ignore_index=True)
    assert (assign_roles(table, "finding", 0, 0.2) != assign_roles(grown, "finding", 0, 0.2)[:-1]).sum() <= 1


@pytest.mark.parametrize("label", ["", "finding"])
def test_data_without_labels_is_split_too(label: str) -> None:
    table = plain_table({"": 100})
    assert (assign_roles(table, label, 0, 0.2) == "test").sum() == 20


def test_patients_without_a_label_stay_in_train_where_others_have_one() -> None:
    table = plain_table({"": 100, "a": 10, "b": 10})
    roles = assign_roles(table, "finding", 0, 0.2)
    assert (roles[:100] == "train").all()
    assert (roles == "test").sum() == 4


def test_a_class_with_one_patient_stays_in_train() -> None:
    table = plain_table({"common": 20, "rare": 1})
    assert assign_roles(table, "finding", 0, 0.2)[-1] == "train"


def test_official_splits_are_kept_and_rows_without_one_are_train() -> None:
    table = plain_table({"a": 4, "b": 4})
    table["split"] = ["train", "val", "test", "", "train", "val", "test", ""]
    roles = assign_roles(table, "finding", 0, 0.5)
    assert roles.tolist() == ["train", "val", "test", "train", "train", "val", "test", "train"]
    assert choose_holdout(table, roles, "finding", 0, 0.1).tolist() == [role == "val" for role in roles]


def test_an_official_split_without_a_test_set_gets_one_from_train() -> None:
    table = plain_table({"a": 20, "b": 20})
    table["split"] = ["val" if i % 4 == 0 else "train" for i in range(40)]
    roles = assign_roles(table, "finding", 0, 0.2)
    assert ((roles == "val") == (table["split"] == "val")).all()
    assert (roles == "test").sum() == 6


def test_a_misspelt_label_column_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="'finding'"):
        assign_roles(plain_table({"a": 4}), "findings", 0, 0.2)


@pytest.mark.parametrize("seed", SEEDS)
def test_smaller_fractions_lie_inside_larger_ones_and_take_whole_patients(seed: int) -> None:
    table = random_table(seed)
    patients, labels = table["patient"].to_numpy(str), table["label:finding"].to_numpy(str)
    fractions = parse_labels("30pct,60pct,100pct")
    drawn = [set(draw_by_class(patients, labels, fraction, 3, seed).tolist()) for fraction in fractions]
    assert drawn[0] <= drawn[1] <= drawn[2] == set(np.flatnonzero(labels != "").tolist())
    for rows in drawn:
        chosen = np.isin(patients, patients[sorted(rows)]) & (labels != "")
        assert rows == set(np.flatnonzero(chosen).tolist())
        assert set(labels[sorted(rows)]) == set(labels) - {""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10pct", {"a": 15, "b": 3}),  # 14.5 and 2.5: half up
        ("1pct", {"a": 1, "b": 1}),  # 1.45, and 0.25: at least 1
        ("5shot", {"a": 5, "b": 5}),
        ("all", {"a": 145, "b": 25}),
    ],
)
def test_each_class_gives_its_share_of_patients(text: str, expected: dict[str, int]) -> None:
    table = plain_table({"a": 145, "b": 25})
    labels = table["label:finding"].to_numpy(str)
    rows = draw_by_class(table["patient"].to_numpy(str), labels, parse_labels(text)[0], 0, 0)
    assert Counter(labels[rows].tolist()) == expected


def test_draws_differ_from_each_other_and_repeat_themselves() -> None:
    table = plain_table({"a": 100, "b": 100})
    arrays, tenth = (table["patient"].to_numpy(str), table["label:finding"].to_numpy(str)), parse_labels("10pct")[0]
    draws = [tuple(draw_by_class(*arrays, tenth, number, seed)) for number in range(5) for seed in range(3)]
    assert len(set(draws)) == 15
    assert tuple(draw_by_class(*arrays, tenth, 4, 2)) == draws[-1]


def test_the_rows_drawn_are_those_of_the_same_patients_whatever_the_order() -> None:
    table = plain_table({"a": 100, "b": 100})
    shuffled = table.sample(frac=1, random_state=0)
    chosen = [
        set(t["patient"].iloc[draw_by_class(t["patient"].to_numpy(str), t["label:finding"].to_numpy(str), parse_labels("10pct")[0], 0, 0)])
        for t in (table, shuffled)
    ]
    assert chosen[0] == chosen[1]


def test_patients_that_all_have_both_labels_can_be_drawn() -> None:
    patients, labels = np.repeat([f"p{i}" for i in range(20)], 2), np.tile(["benign", "malignant"], 20)
    rows = draw_by_class(patients, labels, parse_labels("10pct")[0], 0, 0)
    assert len(rows) == 4
    assert len(set(patients[rows])) == 2


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("1pct", {"a": 20, "b": 10}), ("1pct", {"a": 31, "b": 2, "c": 7}), ("10pct", {"a": 3, "b": 3}), ("0.1pct", {"a": 1000, "b": 50})],
)
def test_a_fraction_too_small_for_the_classes_is_refused_with_the_smallest_that_works(text: str, sizes: dict[str, int]) -> None:
    table = plain_table(sizes)
    arrays = table["patient"].to_numpy(str), table["label:finding"].to_numpy(str)
    with pytest.raises(UserError, match=f"a {sizes['a']}, b {sizes['b']}.*smallest that works is") as refused:
        draw_by_class(*arrays, parse_labels(text)[0], 0, 0)
    named = str(refused.value).split()[-1].rstrip(".")
    assert set(arrays[1][draw_by_class(*arrays, parse_labels(named)[0], 0, 0)]) == set(sizes)


def test_more_shots_than_patients_are_refused_with_the_largest_number() -> None:
    table = plain_table({"a": 20, "b": 10})
    with pytest.raises(UserError, match="10shot"):
        draw_by_class(table["patient"].to_numpy(str), table["label:finding"].to_numpy(str), parse_labels("11shot")[0], 0, 0)


@pytest.mark.parametrize("sizes", [{"a": 5}, {"": 5}, {"a": 5, "": 5}])
def test_labels_of_one_class_are_refused(sizes: dict[str, int]) -> None:
    table = plain_table(sizes)
    with pytest.raises(UserError, match="two classes"):
        draw_by_class(table["patient"].to_numpy(str), table["label:finding"].to_numpy(str), parse_labels("all")[0], 0, 0)


def test_fractions_are_read_in_order_and_each_once() -> None:
    assert [str(fraction) for fraction in parse_labels("1pct, 0.1pct,all,100pct,50shot")] == ["1pct", "0.1pct", "100pct", "50shot"]


@pytest.mark.parametrize(
    ("text", "one_spelling"),
    [("10%", "10pct"), ("1%,10%,100%", "1pct,10pct,100pct"), ("0.1", "10pct"), (".025, 1.0", "2.5pct,100pct"), ("2.5 %", "2.5pct")],
)
def test_a_share_may_be_written_as_percent_or_as_a_number(text: str, one_spelling: str) -> None:
    assert canonical_labels(text) == one_spelling
    assert parse_labels(text) == parse_labels(one_spelling)


@pytest.mark.parametrize(
    "text",
    [
        "10percent",
        "10",
        "1",
        "1.1",
        "0.0",
        "-0.1",
        "0pct",
        "0%",
        "101%",
        "101pct",
        "-1pct",
        "0shot",
        "1.5shot",
        "",
        "1pct,,10pct",
        "1e1pct",
        "\u0661pct",
    ],
)
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UserError, match="10pct"):
        parse_labels(text)
