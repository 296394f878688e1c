"""Which images are one patient's and one study's once names are hashed."""

import pytest

from medssl.data.pseudonyms import describe_unknown_patients, pseudonymize
from medssl.types import Record

SITE = b"k" * 32


def key(patient: str | None, study: str | None = None, locator: str = "a.png"):
    return pseudonymize(Record(locator, "raster", patient=patient, study=study), SITE)


@pytest.mark.fault("L1")
@pytest.mark.parametrize(("one", "other"), [("00123", "123"), (" 123 ", "0123"), ("000", "0")])
def test_a_number_padded_with_zeros_is_the_same_patient(one: str, other: str) -> None:
    assert key(one).patient == key(other).patient


@pytest.mark.fault("C1")
@pytest.mark.parametrize(("one", "other"), [("123", "1230"), ("0x1", "x1"), ("1e5", "100000"), ("A01", "A1"), ("NA", "N/A"), ("0", None)])
def test_other_texts_are_other_patients(one: str, other: str | None) -> None:
    assert key(one).patient != key(other).patient


def test_an_empty_patient_is_none_and_two_files_without_one_are_two_patients() -> None:
    assert key("").patient == key(None).patient == key(" ").patient
    assert key("", locator="a.png").patient != key("", locator="b.png").patient


@pytest.mark.fault("L1")
def test_a_uid_is_one_study_under_any_patient_and_a_visits_number_is_not() -> None:
    assert key("ann", "1.2.840.1").study == key("bob", "1.2.840.1").study
    assert key("ann", "1").study != key("bob", "1").study
    assert key("ann", "1").study == key("ann", "1").study


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([("1", None, None)], []),
        ([(None, None, None), (" ", None, None)], ["Patients are unknown: each image counts as a patient of its own."]),
        ([(None, None, "a"), (None, None, "a")], ["Patients are unknown: each file counts as a patient of its own."]),
        ([(None, "s", None)], ["Patients are unknown: each study counts as a patient of its own."]),
        (
            [("1", None, None), (None, None, None)],
            ["The patients of 1 of 2 images are unknown: each image counts as a patient of its own."],
        ),
        (
            [(None, "s", None), (None, None, None)],
            ["Patients are unknown: each study, or image without a study, counts as a patient of its own."],
        ),
    ],
)
def test_what_counts_as_a_patient_is_said_where_patients_are_unknown(records: list, said: list[str]) -> None:
    assert describe_unknown_patients([Record("a", "raster", patient=p, study=s, series=series) for p, s, series in records]) == said
