"""`medssl prepare --set data.volumes=whole`: what a person reads, and what comes of volumes that cannot be used."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from whole_volumes import marked, write_dicom, write_nifti

from medssl.commands.prepare import prepare
from medssl.data.store import Store
from medssl.errors import UserError

WHOLE = ("data.volumes=whole",)


class Lines:
    """Keeps what the command says."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        self.text += text + "\n"

    def warn(self, text: str) -> None:
        self.say(text)

    def progress(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        """Nothing is shown."""


def test_volumes_are_counted_said_and_stored_with_the_size_of_volumes_and_not_that_of_the_preset(tmp_path: Path) -> None:
    for number in range(3):
        write_nifti(tmp_path / f"data/sub-{number}/anat/sub-{number}_T1w.nii.gz", marked() + number)
    said = Lines()
    path = prepare(said, data=str(tmp_path / "data"), preset="mr_cpu", sets=WHOLE)
    assert path is not None and Store.open(path).images.shape == (3, 1, 64, 64, 64)
    for line in (
        "volumes   3 used of 3 found (nifti)",
        "patients  3, 3 series; volumes each: 1.0 (up to 1)",
        "stored as 64 x 64 x 64 voxels (slices, rows, columns), grey, window header",
        "note      3 whole volumes of 30 slices: each is one sample",
    ):
        assert line in said.text
    assert "--set data.volumes=whole" in said.text.partition("next")[2]


def test_volumes_without_enough_slices_are_named_with_the_setting(tmp_path: Path) -> None:
    write_dicom(tmp_path / "data", marked()[:3])
    with pytest.raises(UserError, match=r"few_slices \(3 x 12 x 14 voxels, data\.min_slices is 8\)"):
        prepare(Lines(), data=str(tmp_path / "data"), sets=WHOLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sets", "expected"),
    [
        ("dicom/mr-series", (), "volumes   1 used of 1 found (dicom)"),
        ("dicom/ct-3slice", ("data.min_slices=3",), "volumes   1 used of 1 found (dicom)"),
        ("nifti/ms_patient19", (), "volumes   1 used of 2 found (nifti)"),
        ("nifti/dcm_qa", (), "volumes   4 used of 4 found (nifti)"),
    ],
)
def test_real_volumes_are_prepared(shared_data: Path, name: str, sets: tuple[str, ...], expected: str) -> None:
    said = Lines()
    prepare(said, data=str(shared_data / name), preset="mr_cpu", sets=(*WHOLE, *sets))
    assert expected in said.text


def test_a_mosaic_is_named(shared_data: Path) -> None:
    with pytest.raises(UserError, match=r"mosaic \(many slices in one picture; convert the series to NIfTI"):
        prepare(Lines(), data=str(shared_data / "dicom/mosaic-cor"), sets=WHOLE)
