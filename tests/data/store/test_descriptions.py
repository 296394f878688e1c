"""Ages above 89, dates and names of persons do not enter a store."""

import pytest

from medssl.data.store.descriptions import site_without_identity, without_identity


@pytest.mark.fault("S23")
@pytest.mark.parametrize("age", ["090Y", "95", "95.5", "95,5", "101y", "1085M", "4700W", "33000D", "95 years", "80-95", "over 93"])
def test_an_age_above_89_in_any_unit_is_90_or_more(age: str) -> None:
    assert without_identity("age", age) == "90+"


@pytest.mark.parametrize("age", ["089Y", "40", "067Y", "0300M", "200W", "000D", "1000D", "60-69", "adult", ""])
def test_other_ages_stay(age: str) -> None:
    assert without_identity("age", age) == age


@pytest.mark.fault("S23")
def test_dates_are_no_ages_and_long_texts_are_cut() -> None:
    assert [without_identity("age", date) for date in ("1907-05-03", "03.05.1987", "5/3/87")] == ["", "", ""]
    assert len(without_identity("scanner", "x" * 500)) == 64
    assert without_identity("view", "PA") == "PA"


@pytest.mark.fault("S23")
def test_a_hospital_that_is_named_like_a_person_is_hashed_and_hospitals_stay_apart() -> None:
    key = b"k" * 32
    assert site_without_identity("Mercy Hospital", key) == "Mercy Hospital"
    hashed = [site_without_identity(name, key) for name in ("DOE^JANE", "Ward of 19070503", "x" * 100)]
    assert len(set(hashed)) == 3
    assert all(len(name) == 13 and name.startswith("site ") for name in hashed)
    assert site_without_identity("", key) == ""
