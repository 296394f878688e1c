import hashlib

import numpy as np
import pydicom
import pytest

from medssl.data.sources import phantom
from medssl.errors import UserError

SMALL = phantom.Config(patients=12, size=64, seed=3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSSL_CACHE", str(tmp_path_factory.mktemp("drawn")))
        return phantom.build(SMALL, "phantom")


def digests(folder):
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def test_the_phantom_is_listed_like_any_dicom_folder_with_labels_and_patients(source):
    assert source.kind == "phantom"
    assert {record.reader for record in source.records} == {"dicom"}
    by_patient = {}
    for record in source.records:
        by_patient.setdefault(record.patient, set()).add(record.labels["label"])
    assert len(by_patient) == 12
    assert all(len(labels) == 1 for labels in by_patient.values())
    assert sum(labels == {"nodule"} for labels in by_patient.values()) == 5  # 0.4 of 12, rounded
    assert source.skipped == ()


def test_the_same_configuration_gives_the_same_bytes_and_another_seed_others(source, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    assert digests(phantom.build(SMALL, "phantom").root) == digests(source.root)
    other = digests(phantom.build(SMALL.model_copy(update={"seed": 4, "patients": 4}), "phantom").root)
    assert not set(other.values()) & set(digests(source.root).values())


def test_the_label_names_the_finding_and_more_variation_changes_windows_and_exposures(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    pattern = phantom.build(SMALL.model_copy(update={"finding": "interstitial", "patients": 4}), "phantom")
    assert {record.labels["label"] for record in pattern.records} == {"interstitial", "normal"}
    (exposure, *_) = [e for e in phantom.exposures(SMALL) if e.scanner.windowed]
    once, varied = (phantom.header_and_pixels(exposure, SMALL.model_copy(update={"variation": v})) for v in (1.0, 2.5))
    assert once.WindowWidth != varied.WindowWidth
    assert once.WindowCenter != varied.WindowCenter


def test_it_is_drawn_once(source, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(source.root.parent.parent))
    monkeypatch.setattr(phantom, "radiograph", None)
    assert phantom.build(SMALL, "phantom") == source


def test_an_interrupted_drawing_leaves_nothing_that_looks_complete(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    left = iter([np.zeros((64, 64), np.float32)] * 3)
    monkeypatch.setattr(phantom, "radiograph", lambda *_: next(left))
    with pytest.raises(StopIteration):
        phantom.build(SMALL, "phantom")
    assert list((tmp_path / "phantoms").iterdir()) == []


def test_scanners_differ_in_bits_and_about_a_third_of_the_images_is_monochrome1():
    scanners = [exposure.scanner for exposure in phantom.exposures(phantom.Config(patients=600))]
    assert {scanner.bits for scanner in scanners} == {10, 12, 14}
    assert np.mean([scanner.photometric == "MONOCHROME1" for scanner in scanners]) == pytest.approx(1 / 3, abs=0.06)


def test_some_patients_have_several_images_and_prevalence_is_exact():
    exposures = list(phantom.exposures(phantom.Config(patients=100, prevalence=0.25)))
    images = np.bincount([exposure.patient for exposure in exposures])
    assert set(images) == {1, 2, 3}
    assert len({exposure.patient for exposure in exposures if exposure.lesion}) == 25


def test_files_obey_the_standard_as_pydicom_reads_it_and_name_no_person_or_date(source):
    seen = set()
    for file in sorted(source.root.rglob("*.dcm")):
        ds = pydicom.dcmread(file)
        stored = ds.pixel_array
        assert stored.shape == (64, 64)
        assert stored.max() < 2**ds.BitsStored
        assert ds.StudyDate == ds.PatientBirthDate == ""
        assert ds.SOPInstanceUID.is_valid
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        # brightness by the photometric interpretation: the spine (middle column, below) absorbs more than the air beside the neck
        brighter = stored.astype(int) * (-1 if ds.PhotometricInterpretation == "MONOCHROME1" else 1)
        assert brighter[40:56, 30:34].mean() > brighter[0:4, 0:4].mean()
        seen.add(ds.PhotometricInterpretation)
        if "WindowCenter" in ds:
            low, high = ds.WindowCenter - ds.WindowWidth / 2, ds.WindowCenter + ds.WindowWidth / 2
            assert np.mean((stored >= low - 1) & (stored <= high + 1)) > 0.99
    assert seen == {"MONOCHROME1", "MONOCHROME2"}


def test_a_cache_that_cannot_be_written_is_a_user_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="MEDSSL_CACHE"):
        phantom.build(SMALL, "phantom")
