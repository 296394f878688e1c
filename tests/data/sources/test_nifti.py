import os
from collections import Counter

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from PIL import Image

from medssl.config import Data
from medssl.data.decode import RecordReader
from medssl.data.detect import detect
from medssl.data.sources import nifti
from medssl.errors import UserError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def build(root, **options):
    return nifti.build(nifti.Config(**options), str(root))


def write(root, *names, shape=(6, 5, 4), affine=LPS):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        kind = Nifti1Pair if name.endswith(".hdr") else Nifti1Image
        kind(np.random.default_rng(0).integers(0, 99, shape, np.int16), affine).to_filename(root / name)


def patients(source):
    return {record.locator: record.patient for record in source.records}


@pytest.mark.slow
def test_the_real_folder_is_recognised_listed_and_read(shared_data):
    assert detect(str(shared_data / "nifti")) == "nifti"
    source = build(shared_data / "nifti", slices="middle")
    volumes = {"dcm_qa/ax_asc_35sl_6.nii": 2, "dcm_qa/cor_asc_35sl_16.nii": 2, "nibabel/example4d.nii.gz": 2,
               "nibabel/example_nifti2.nii.gz": 2, "nibabel/functional.nii": 20}  # fmt: skip
    assert Counter(record.locator for record in source.records) == Counter({**dict.fromkeys(patients(source), 1), **volumes})
    assert len(patients(source)) == 13
    left_out = [("ms_patient19/lesion_mask.nii.gz", "mask"), ("nibabel/nifti1.hdr", "missing_img")]
    assert [(locator, reason) for locator, reason, _ in source.skipped] == left_out
    read = RecordReader(source.root, Data())
    for record in source.records:
        if record.locator != "nibabel/resampled_anat_moved.nii":  # it holds NaN
            assert read(record).pixels.max() > 0.5


def test_every_slice_of_every_volume_is_a_record_and_its_volume_a_series(tmp_path):
    write(tmp_path, "a.nii.gz", shape=(6, 5, 4, 3))
    source = build(tmp_path)
    assert [(record.index, record.series) for record in source.records] == [
        (4 * v + z, f"a.nii.gz#{v}") for v in range(3) for z in range(4)
    ]


def test_slices_are_counted_along_the_bodys_axis_whichever_is_stored(tmp_path):
    write(tmp_path, "a.nii", shape=(6, 5, 4), affine=np.array([[0, 0, 2, 0], [2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]]))
    assert len(build(tmp_path).records) == 5


@pytest.mark.fault("N7")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"volumes": "first"}, [0, 1, 2, 3, 4, 5, 6]),
        ({"volumes": "first", "slices": "middle"}, [3]),
        ({"slices": "middle"}, [3, 10]),
        ({"slices": "first"}, [0, 7]),
        ({"slices": "every_3"}, [1, 4, 8, 11]),
        ({"slices": "every_100"}, [3, 10]),
    ],
)
def test_policies_choose_volumes_and_slices(tmp_path, options, expected):
    write(tmp_path, "a.nii", shape=(6, 5, 7, 2))
    assert [record.index for record in build(tmp_path, **options).records] == expected


@pytest.mark.parametrize("options", [{"slices": "every_0"}, {"slices": "every_"}, {"slices": "some"}, {"volumes": "middle"}])
def test_unknown_policies_are_refused(options):
    with pytest.raises(ValueError, match=r"slices|volumes"):
        nifti.Config(**options)


def test_a_bids_subject_is_the_patient_wherever_its_name_stands(tmp_path):
    write(tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sub-01/ses-2/anat/x.nii.gz", "derivatives/seg/sub-02_T1w.nii.gz")
    assert set(patients(build(tmp_path)).values()) == {"sub-01", "sub-02"}
    assert patients(build(tmp_path))["derivatives/seg/sub-02_T1w.nii.gz"] == "sub-02"


def test_a_table_names_the_patients(tmp_path):
    write(tmp_path, "a.nii", "b.nii.gz", "c.nii")
    (tmp_path / "labels.csv").write_text("path,patient,label\na.nii,p,ill\nb.nii.gz,p,well\n")
    source = build(tmp_path)
    assert patients(source) == {"a.nii": "p", "b.nii.gz": "p", "c.nii": "c.nii"}
    assert Counter(record.labels.get("label") for record in source.records) == {"ill": 4, "well": 4, None: 4}


def test_files_of_one_folder_are_one_patient_unless_the_folder_is_a_group(tmp_path):
    write(tmp_path / "people", "a/t1.nii", "a/flair.nii", "b/t1.nii")
    assert patients(build(tmp_path / "people")) == {"a/t1.nii": "a", "a/flair.nii": "a", "b/t1.nii": "b"}
    write(tmp_path / "one", *(f"imagesTr/{n}.nii" for n in range(3)))
    assert len(set(patients(build(tmp_path / "one")).values())) == 3
    write(tmp_path / "splits", "train/a/1.nii", "train/a/2.nii", "test/b/3.nii")
    assert {(record.patient, record.split) for record in build(tmp_path / "splits").records} == {("a", "train"), ("b", "test")}


def test_one_file_is_a_source_by_itself(tmp_path):
    write(tmp_path, "a.nii.gz", "b.nii")
    assert detect(str(tmp_path / "a.nii.gz")) == "nifti"
    assert patients(build(tmp_path / "a.nii.gz")).keys() == {"a.nii.gz"}


def test_a_pair_is_listed_once_and_only_if_its_voxels_lie_in_the_folder(tmp_path):
    write(tmp_path / "data", "a.hdr", "b.hdr")
    (tmp_path / "data/b.img").rename(tmp_path / "b.img")
    (tmp_path / "data/b.img").symlink_to(tmp_path / "b.img")
    source = build(tmp_path / "data")
    assert patients(source).keys() == {"a.hdr"}
    assert {(locator, reason) for locator, reason, _ in source.skipped} == {("b.hdr", "missing_img"), ("b.img", "outside_root")}


def test_a_folder_of_pictures_or_dicom_with_one_nifti_is_not_taken_for_nifti(tmp_path):
    write(tmp_path, "a.nii")
    assert nifti.recognises(str(tmp_path))
    for n in range(2):
        Image.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / f"{n}.png")
    assert not nifti.recognises(str(tmp_path))


def test_what_cannot_be_read_is_skipped_and_neither_names_nor_header_texts_are_told(tmp_path):
    write(tmp_path, "DOE^JANE/good.nii", "DOE^JANE/short.nii", "DOE^JANE/huge.nii")
    for name, at, value in (("short", 0, None), ("huge", 40, [3, 32767, 32767, 32767])):
        file = tmp_path / f"DOE^JANE/{name}.nii"
        content = file.read_bytes()
        file.write_bytes(content[:100] if value is None else content[:at] + np.array(value, "<i2").tobytes() + content[at + 8 :])
    (tmp_path / "DOE^JANE/text.nii").write_text("DOE^JANE")
    os.mkfifo(tmp_path / "DOE^JANE/pipe.nii")
    source = build(tmp_path)
    assert {locator.rpartition("/")[2]: reason for locator, reason, _ in source.skipped} == {
        "short.nii": "not_nifti",
        "huge.nii": "header_bigger_than_file",
        "text.nii": "not_nifti",
        "pipe.nii": "not_a_file",
    }
    assert "DOE" not in str([source.notes, [detail for _, _, detail in source.skipped]])
    (tmp_path / "DOE^JANE/good.nii").unlink()
    with pytest.raises(UserError, match=r"There is no NIfTI volume below .*2 not_nifti") as error:
        build(tmp_path)
    assert "DOE" not in str(error.value)


@pytest.mark.fault("N6")
def test_files_that_do_not_say_how_their_axes_lie_are_noted(tmp_path):
    Nifti1Image(np.arange(24, dtype=np.int16).reshape(4, 3, 2), None).to_filename(tmp_path / "a.nii")
    assert "1 files do not say how their axes lie: taken as left, anterior, superior" in build(tmp_path).notes
