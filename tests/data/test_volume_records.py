"""One record for each whole volume, from the records of its slices."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whole_volumes import CT, marked, write_dicom, write_nifti

from medssl.config import Data
from medssl.data.sources import dicom, manifest, medmnist, nifti
from medssl.data.volume_records import as_volumes
from medssl.errors import UserError
from medssl.types import Record, Source


def whole(listed: Source, **settings: object) -> Source:
    return as_volumes(listed, Data.model_validate({"volumes": "whole", **settings}))


def slices(*labels: str, series: str | None = "s", reader: str = "dicom", split: tuple[str, ...] = ()) -> list[Record]:
    known = [{"label": label} if label else {} for label in labels]
    return [
        Record(f"{k}.dcm", reader, labels=each, series=series, study="1.2", split=split[k] if split else None)
        for k, each in enumerate(known)
    ]


def test_a_dicom_series_becomes_one_record_with_all_its_slices_in_their_order(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a", marked(), shuffle=3, SeriesInstanceUID="1.1")
    write_dicom(tmp_path / "b", marked()[:, ::-1], shuffle=4, SeriesInstanceUID="1.2", **CT)
    source = dicom.build(dicom.Config(), str(tmp_path))
    volumes = whole(source)
    assert volumes.whole and [len(record.parts) for record in volumes.records] == [10, 10]
    assert [part for record in volumes.records for part in record.parts] == [(r.locator, r.index) for r in source.records]
    assert [record.locator for record in volumes.records] == [record.parts[0][0] for record in volumes.records]
    assert "2 whole volumes of 20 slices: each is one sample" in volumes.notes


def test_two_echoes_in_one_series_are_two_volumes(tmp_path: Path) -> None:
    """Each position twice: the instances of an echo follow each other, or those of a position do."""
    first, second = marked(), marked() + 1000
    write_dicom(tmp_path / "a", first, shuffle=1, InstanceNumber=lambda k: 2 * k + 1)
    write_dicom(tmp_path / "b", second, shuffle=2, InstanceNumber=lambda k: 2 * k + 2)
    volumes = whole(dicom.build(dicom.Config(), str(tmp_path))).records
    assert [{locator[0] for locator, _ in record.parts} for record in volumes] == [{"a"}, {"b"}]
    assert any("1 series of CT, MR or PT hold several volumes" in note for note in dicom.build(dicom.Config(), str(tmp_path)).notes)
    assert [len(record.parts) for record in volumes] == [10, 10]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"EchoTime": 10, "EchoNumbers": 1}, {"EchoTime": 80, "EchoNumbers": 2}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "FFE"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "FFE"]}),
        ({"AcquisitionNumber": 1, "EchoTime": lambda k: 10 + k / 10}, {"AcquisitionNumber": 2, "EchoTime": lambda k: 10 + k / 10}),
    ],
)
def test_the_echoes_of_a_series_are_not_mixed_where_names_and_instance_numbers_would_mix_them(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """The instances of each echo are counted from 1, the names are in no order, and one slice of the first echo is missing."""
    write_dicom(tmp_path / "a", marked(), shuffle=1, **first, InstanceNumber=lambda k: k + 1)
    write_dicom(tmp_path / "b", marked() + 1000, shuffle=2, **second, InstanceNumber=lambda k: k + 1)
    (tmp_path / "a/004.dcm").unlink()
    for file in (*tmp_path.glob("a/*"), *tmp_path.glob("b/*")):
        file.rename(tmp_path / f"{hashlib.sha256(str(file.relative_to(tmp_path)).encode()).hexdigest()[:8]}-{file.parent.name}.dcm")
    volumes = whole(dicom.build(dicom.Config(), str(tmp_path))).records
    assert sorted({locator[-5] for locator, _ in record.parts} for record in volumes) == [{"a"}, {"b"}]
    assert sorted(len(record.parts) for record in volumes) == [9, 10]


def test_packages_and_copies_are_no_volumes_of_their_own(tmp_path: Path) -> None:
    """Every other slice was taken in a second acquisition, and the file of one slice was copied: one volume, and the copy."""
    files = write_dicom(tmp_path, marked(), AcquisitionNumber=lambda k: k % 2 + 1)
    (tmp_path / "copy.dcm").write_bytes(files[3].read_bytes())
    volumes = whole(dicom.build(dicom.Config(), str(tmp_path))).records
    assert [len(record.parts) for record in volumes] == [10, 1]


def test_each_time_of_a_nifti_file_and_each_row_of_an_archive_is_one_record(tmp_path: Path) -> None:
    write_nifti(tmp_path / "n/b.nii", marked(), "PIR")
    write_nifti(tmp_path / "n/b_mask.nii", (marked() > 500).astype(np.uint8), "PIR")
    volumes = whole(nifti.build(nifti.Config(), str(tmp_path / "n")))
    assert [(record.locator, record.index) for record in volumes.records] == [("b.nii", 0)]
    assert [reason for _, reason, _ in volumes.skipped] == ["mask"]
    np.savez(tmp_path / "a.npz", train_images=np.zeros((3, 9, 8, 8), np.uint8), train_labels=np.array([[0], [1], [1]]))
    rows = whole(medmnist.build(medmnist.Config(), str(tmp_path / "a.npz"))).records
    assert [(record.locator, record.index, record.labels) for record in rows] == [
        ("a.npz#train_images", row, {"label": str(int(row > 0))}) for row in range(3)
    ]


def test_tables_beside_slices_label_volumes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", marked())
    (tmp_path / "table.csv").write_text("path,patient_id,label\na.nii.gz,7,ill\nb.nii.gz,8,well\n")
    source = whole(manifest.build(manifest.Config(), str(tmp_path / "table.csv")))
    assert [(record.patient, record.labels) for record in source.records] == [("7", {"label": "ill"}), ("8", {"label": "well"})]


@pytest.mark.parametrize(("labels", "expected"), [(("a", "a"), {"label": "a"}), (("a", "b"), {}), (("a", ""), {})])
def test_a_volume_has_the_label_that_all_its_slices_have(labels: tuple[str, ...], expected: dict[str, str]) -> None:
    source = whole(Source("dicom", Path(), tuple(slices(*labels))))
    assert source.records[0].labels == expected
    assert any("different labels" in note for note in source.notes) == (not expected)


def test_a_volume_of_several_splits_is_in_the_highest_one() -> None:
    source = whole(Source("dicom", Path(), tuple(slices("", "", "", split=("train", "test", "val")))))
    assert source.records[0].split == "test"


def test_images_beside_volumes_are_left_out_and_images_alone_are_an_error() -> None:
    film = Record("film.dcm", "dicom", study="1.3")
    source = whole(Source("dicom", Path(), (*slices("", ""), film)))
    assert [record.locator for record in source.records] == ["0.dcm"]
    assert source.skipped == (("film.dcm", "no_volume", "no slice of a volume"),)
    with pytest.raises(UserError, match=r"holds no volume.*data.volumes=whole"):
        whole(Source("dicom", Path(), (film,)))


def test_slices_without_a_series_are_named_as_the_cause(tmp_path: Path) -> None:
    write_dicom(tmp_path, marked(), SeriesInstanceUID=None)
    with pytest.raises(UserError, match="10 slices of CT, MR or PET name no series"):
        whole(dicom.build(dicom.Config(), str(tmp_path)))


def test_a_choice_among_slices_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.source\.slices = middle"):
        whole(Source("nifti", Path(), tuple(slices("", ""))), source={"name": "nifti", "slices": "middle"})
