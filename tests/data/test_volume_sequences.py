"""The sequences of an examination as channels: which volumes belong together, what is left out, and on which grid they lie."""

from pathlib import Path

import numpy as np
import pytest
from whole_volumes import CODES, SPACING, marked, write_dicom, write_nifti

from medssl.config import Data
from medssl.data.decode import RecordReader
from medssl.data.prepare import prepare
from medssl.data.sources import dicom, manifest, nifti
from medssl.data.volume_channels import join_channels
from medssl.data.volume_records import as_volumes
from medssl.data.volume_sequences import join_sequences
from medssl.errors import ReadError, UserError
from medssl.types import Decoded, Record, Source, VolumeFacts

NAMES = ["T1", "FLAIR"]


def joined(listed: Source, **settings: object) -> tuple[Source, Data]:
    data = Data.model_validate({"volumes": "whole", "size": list(marked().shape), "sequences": NAMES, "path": "data", **settings})
    return as_volumes(listed, data), data


def files(source: Source) -> list[list[str]]:
    return [[each.locator for each in record.sequences] for record in source.records]


@pytest.mark.parametrize(
    "locators",
    [
        ["sub-1/anat/sub-1_acq-fast_T1w.nii.gz", "sub-1/anat/sub-1_FLAIR.nii.gz", "sub-2/anat/sub-2_T1w.nii", "sub-2/anat/sub-2_FLAIR.nii"],
        ["007_t1.nii", "007_flair.nii", "008_t1.nii", "008_flair.nii"],
        ["T1/a.nii", "FLAIR/a.nii", "T1/b.nii", "FLAIR/b.nii"],
        ["a/T1/x.nii", "a/FLAIR/y.nii", "b/T1/x.nii", "b/FLAIR/z.nii"],
        ["a/t1.nii", "a/flair.nii", "b/t1.nii", "b/flair.nii"],
    ],
)
def test_names_of_files_and_folders_tell_sequence_and_examination(locators: list[str]) -> None:
    found = join_sequences([Record(locator, "nifti", series=locator) for locator in locators], NAMES)
    assert [[each.locator for each in record.sequences] for record in found.records] == [locators[:2], locators[2:]]
    assert found.skipped == []


def test_incomplete_and_repeated_and_other_sequences_are_left_out_and_counted(tmp_path: Path) -> None:
    for name in ("1_T1", "1_FLAIR", "1_T2", "2_FLAIR", "3_T1", "3_flair", "3_FLAIR"):
        write_nifti(tmp_path / f"{name}.nii", marked())
    source, _ = joined(nifti.build(nifti.Config(), str(tmp_path)))
    assert files(source) == [["1_T1.nii", "1_FLAIR.nii"], ["3_T1.nii", "3_FLAIR.nii"]]
    assert {(locator, reason) for locator, reason, _ in source.skipped} == {
        ("1_T2.nii", "other_sequence"),
        ("2_FLAIR.nii", "incomplete"),
        ("3_flair.nii", "repeated_sequence"),
    }
    assert "2 examinations with the channels T1, FLAIR" in source.notes
    assert "1 incomplete examinations left out: 1 without T1" in source.notes


def test_a_column_of_the_table_names_the_sequence_and_patient_and_study_are_the_examination(tmp_path: Path) -> None:
    for name in "abcd":
        write_nifti(tmp_path / f"{name}.nii", marked())
    lines = ["path,patient,study,kind,label", "a.nii,7,1,FLAIR,ill", "b.nii,7,1,T1,", "c.nii,7,2,t1,well", "d.nii,7,2,flair,well"]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    listed = manifest.build(manifest.Config(columns={"sequence": "kind"}), str(tmp_path / "table.csv"))
    source, _ = joined(listed)
    assert files(source) == [["b.nii", "a.nii"], ["c.nii", "d.nii"]]
    assert [record.labels for record in source.records] == [{"label": "ill"}, {"label": "well"}]
    assert [(record.patient, dict(record.extra)) for record in source.records] == [("7", {})] * 2


def test_series_of_dicom_belong_to_their_study_and_folders_name_them(tmp_path: Path) -> None:
    for number, name in enumerate(("T1", "FLAIR")):
        write_dicom(tmp_path / "old" / name, marked(), shuffle=number, SeriesInstanceUID=f"1.{number}")
        write_dicom(tmp_path / "new" / name, marked(), shuffle=9 + number, SeriesInstanceUID=f"2.{number}", StudyInstanceUID="4.5")
    source, data = joined(dicom.build(dicom.Config(), str(tmp_path)))
    assert [[each.series for each in record.sequences] for record in source.records] == [["2.0", "2.1"], ["1.0", "1.1"]]
    assert prepare(source, data, tmp_path / "cache").images.shape == (2, 2, *marked().shape)


def test_a_store_has_the_sequences_as_channels_each_with_its_own_scale_and_a_change_of_any_file_is_seen(tmp_path: Path) -> None:
    first, second = marked(), marked()[:, ::-1] * 3 + 50
    write_nifti(tmp_path / "data/1_T1.nii", first, "PIR")
    write_nifti(tmp_path / "data/1_FLAIR.nii.gz", second, "LAS")  # the same voxels of the patient, stored in another order

    def store(**settings: object):
        source, data = joined(nifti.build(nifti.Config(), str(tmp_path / "data")), spacing_mm=list(SPACING), **settings)
        return prepare(source, data, tmp_path / "cache")

    made = store()
    assert made.card["channels"] == 2 and made.card["settings"]["sequences"] == NAMES
    for channel, volume in enumerate((first, second)):
        low, high = np.percentile(volume, (0.5, 99.5))
        np.testing.assert_allclose(made.images[0, channel] / 65535, np.clip((volume - low) / (high - low), 0, 1), atol=1e-4)
    patches = store(volumes="patches", size=16)
    assert patches.images[0].shape[0] == 2, "and so has a store of volumes in full"
    assert store(sequences=NAMES[::-1]).path != made.path == store().path
    write_nifti(tmp_path / "data/1_FLAIR.nii.gz", first, "LAS")
    assert store().path != made.path


@pytest.mark.parametrize("code", CODES[::5])
def test_readers_know_where_the_voxels_lie_in_the_patient_whichever_way_a_file_has_them(tmp_path: Path, code: str) -> None:
    expected = [[0, 0, 1.5, -40], [0, 2, 0, -50], [3, 0, 0, -60], [0, 0, 0, 1]]  # x, y, z of slice, row, column: `whole_volumes.stored_as`
    data = Data.model_validate({"volumes": "whole"})
    write_nifti(tmp_path / "a.nii", marked(), code)
    write_dicom(tmp_path / "d", marked(), code)
    for listed in (nifti.build(nifti.Config(), str(tmp_path / "a.nii")), dicom.build(dicom.Config(), str(tmp_path / "d"))):
        source = as_volumes(listed, data)
        volume = RecordReader(source.root, data)(source.records[0]).volume
        assert volume is not None and volume.to_lps is not None
        np.testing.assert_allclose(volume.to_lps, expected, atol=1e-4)


def test_another_grid_is_sampled_at_the_voxels_of_the_first_one(tmp_path: Path) -> None:
    """A field of values that are linear in mm is the same on every grid, so its expected values need no resampling."""
    shape, spacing = (12, 20, 16), (5.0, 2.0, 2.0)

    def decoded(shape: tuple[int, int, int], spacing: tuple[float, ...], corner: tuple[float, ...]) -> Decoded:
        to_lps = np.eye(4)[:, [2, 1, 0, 3]] * [*spacing, 1]
        to_lps[:3, 3] = corner
        places = to_lps[:3, :3] @ np.indices(shape).reshape(3, -1) + to_lps[:3, 3:]
        values = np.array([0.001, 0.002, 0.003]) @ places + 0.5
        return Decoded(values.reshape(1, *shape).astype(np.float32), 16, spacing, "MR", volume=VolumeFacts("LPS", to_lps=to_lps))

    first = decoded(shape, spacing, (-10, -20, 5))
    finer = decoded((70, 34, 50), (1.0, 1.0, 1.0), (-10.5, -20.5, 4))
    found = join_channels([first, finer])
    inside = np.s_[:, :17]
    np.testing.assert_allclose(found.pixels[1][inside], first.pixels[0][inside], atol=1e-5)
    assert found.spacing_mm == spacing and found.pixels.shape == (2, *shape)
    assert not found.pixels[1, :, -1].any(), "which the second volume does not show"
    coarse = decoded((12, 20, 16), spacing, (-10, -20, 2.5))  # half a slice lower: the last slice is half outside
    np.testing.assert_allclose(join_channels([first, coarse]).pixels[1][:-1], first.pixels[0][:-1], atol=1e-5)
    assert join_channels([first, coarse]).pixels[1].min() > 0.4, "nothing is lost at the border"
    with pytest.raises(ReadError, match="apart: a sequence shows 0%"):
        join_channels([first, decoded(shape, spacing, (500, 0, 0))])


def test_volumes_that_do_not_say_where_they_lie_need_equal_edges() -> None:
    volumes = [Decoded(np.zeros((1, *shape), np.float32), 8, volume=VolumeFacts()) for shape in ((9, 9, 9), (9, 9, 9), (9, 9, 8))]
    assert join_channels(volumes[:2]).pixels.shape == (2, 9, 9, 9)
    with pytest.raises(ReadError, match="other_grid"):
        join_channels(volumes[1:])


def test_wrong_settings_and_data_without_a_complete_examination_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sequences: they are the channels of whole volumes; add data\.volumes=whole"):
        Data.model_validate({"sequences": NAMES})
    with pytest.raises(ValueError, match="names one of them twice"):
        Data.model_validate({"volumes": "whole", "sequences": ["T1", "t1"]})
    with pytest.raises(ValueError, match="several windows in HU would be channels, too"):
        Data.model_validate({"volumes": "whole", "sequences": NAMES, "window": "lung,bone"})
    write_nifti(tmp_path / "1_T1.nii", marked())
    with pytest.raises(UserError, match=r"no examination with all of T1, FLAIR: .*1 without FLAIR\. A sequence is found by"):
        joined(nifti.build(nifti.Config(), str(tmp_path)))
