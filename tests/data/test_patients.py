"""Where patients come from, and what is said of it; patient IDs that tell nobody apart."""

from pathlib import Path

import pytest

from medssl.data.patients import PatientOrigin, without_shared_ids
from medssl.types import Record, Source

SIDES = "so images of one patient may stand on both sides of a split, and scores may be too good."


def listed(*records: tuple[str | None, str | None, str | None]) -> list[Record]:
    return [Record(f"{n}.png", "raster", patient=p, study=s, series=series) for n, (p, s, series) in enumerate(records)]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([("1", None, None)], []),
        ([(None, None, None), (" ", None, None)], [f"Patients are unknown: each image counts as a patient of its own, {SIDES}"]),
        ([(None, None, "a"), (None, None, "a")], [f"Patients are unknown: each file counts as a patient of its own, {SIDES}"]),
        ([(None, "s", None)], [f"Patients are unknown: each study counts as a patient of its own, {SIDES}"]),
        (
            [("1", None, None), (None, None, None)],
            [f"The patients of 1 of 2 images are unknown: each image counts as a patient of its own, {SIDES}"],
        ),
        (
            [(None, "s", None), (None, None, None)],
            [f"Patients are unknown: each study, or image without a study, counts as a patient of its own, {SIDES}"],
        ),
    ],
)
def test_what_counts_as_a_patient_is_said_where_patients_are_unknown(records: list, said: list[str]) -> None:
    assert PatientOrigin.of(listed(*records)).sentences() == said


def test_a_guess_is_called_one_and_a_volume_that_stands_for_its_patient_is_unknown() -> None:
    guessed = PatientOrigin.of([Record("a", "raster", patient="a", patient_from="names")] * 3)
    assert guessed.people(1) == "1 patients (guessed from names)"
    assert "patients of 3 images are guessed" in guessed.sentences()[0]
    volumes = PatientOrigin.of([Record("a.nii", "nifti", patient="a.nii", patient_from="itself")])
    assert (volumes.all_unknown, volumes.units, volumes.people(1)) == (True, "files", "unknown patients")


@pytest.mark.parametrize(("study", "units"), [(None, "images"), ("1.2", "studies")])
def test_where_nothing_is_known_of_patients_none_are_claimed(study: str | None, units: str) -> None:
    origin = PatientOrigin.of(listed((None, study, None), (None, study, None)))
    assert (origin.units, origin.count(1200, 7)) == (units, "1,200 images of unknown patients")
    assert PatientOrigin.by({"patients": origin.to_dict()}) == origin
    assert PatientOrigin.by({}).count(12, 7) == "12 images of 7 patients", "earlier cards say nothing of it"


def source_of(*patients: str | None) -> Source:
    records = tuple(Record(f"{n}.dcm", "dicom", patient=p, study=f"1.2.{n // 2}") for n, p in enumerate(patients))
    return Source("dicom", Path(), records)


def test_one_patient_id_for_everything_is_none() -> None:
    found = without_shared_ids(source_of(*["4711"] * 4))
    assert {record.patient for record in found.records} == {None}
    assert found.notes == ("All images have the same patient ID, which is taken as no patient ID",)
    one_study = source_of("4711", "4711")
    assert without_shared_ids(one_study) is one_study, "a single study has one patient"
    several = source_of("1", "1", "2", "2")
    assert without_shared_ids(several) is several


@pytest.mark.parametrize("word", ["ANONYMOUS", "Anonymized", "unknown", "N/A", "de-identified", "XXXX"])
def test_a_word_in_the_place_of_an_id_is_none(word: str) -> None:
    found = without_shared_ids(source_of(word, word, "17", "18"))
    assert [record.patient for record in found.records] == [None, None, "17", "18"]
    assert found.notes == ("2 images have a patient ID such as ANONYMOUS, which is taken as no patient ID",)


def test_zero_and_names_that_begin_like_such_words_are_patients() -> None:
    kept = source_of("0", "Nada^A", "Nanette", "X17")
    assert without_shared_ids(kept) is kept
