"""The phantom of volumes: NIfTI files whose voxels are in the order of axial images, with shapes as labels."""

import nibabel
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes

from medssl.data.detect import detect
from medssl.data.sources import phantom_volumes
from medssl.errors import UserError

SMALL = phantom_volumes.Config(patients=7, size=16, seed=3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSSL_CACHE", str(tmp_path_factory.mktemp("drawn")))
        return phantom_volumes.build(SMALL, "phantom_volumes")


def test_the_word_names_the_phantom():
    assert detect("phantom_volumes") == "phantom_volumes"
    assert detect("phantom") == "phantom"


def test_it_is_listed_like_any_nifti_folder_with_a_label_and_a_patient_for_each_file(source):
    assert source.kind == "phantom_volumes"
    assert {record.reader for record in source.records} == {"nifti"}
    assert len({(record.locator, record.patient) for record in source.records}) == 7
    found = {record.locator: record.labels["label"] for record in source.records}
    assert found == {scan.file: scan.shape for scan in phantom_volumes.scans(SMALL)}
    assert sorted(found.values()) == ["cube", "cube", "ellipsoid", "ellipsoid", "sphere", "sphere", "sphere"]
    assert source.skipped == ()


def test_a_file_holds_the_drawn_voxels_in_the_order_of_axial_images(source):
    for scan in phantom_volumes.scans(SMALL):
        file = nibabel.load(source.root / scan.file)
        assert aff2axcodes(file.affine) == ("L", "P", "S")  # pyright: ignore
        assert file.header.get_zooms() == (4.0, 4.0, 4.0)  # pyright: ignore
        voxels = np.asarray(file.dataobj).transpose(2, 1, 0)  # pyright: ignore
        assert np.abs(voxels / 1000 - phantom_volumes.voxels_of(scan, SMALL)).max() < 0.001


def test_it_is_drawn_once_and_another_seed_is_another_folder(source, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(source.root.parent.parent))
    with monkeypatch.context() as patch:
        patch.setattr(phantom_volumes, "draw_volume", None)
        assert phantom_volumes.build(SMALL, "phantom_volumes") == source
    other = phantom_volumes.build(SMALL.model_copy(update={"seed": 4}), "phantom_volumes")
    assert other.root != source.root


def test_an_interrupted_drawing_leaves_nothing_that_looks_complete(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    left = iter([np.zeros((16, 16, 16), np.float32)] * 3)
    monkeypatch.setattr(phantom_volumes, "draw_volume", lambda *_: next(left))
    with pytest.raises(StopIteration):
        phantom_volumes.build(SMALL, "phantom_volumes")
    assert list((tmp_path / "phantoms").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "phantoms").write_text("a file where the folder should be")
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="MEDSSL_CACHE"):
        phantom_volumes.build(SMALL, "phantom_volumes")
