"""Which images are one patient's and one study's once names are hashed."""

import pytest

from medssl.data.pseudonyms import pseudonymize
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
