"""The tables of NIH ChestX-ray14 and CheXpert as they are published, and tables that say several findings in one cell."""

import gzip
from pathlib import Path

import pytest
from PIL import Image

from medssl.data.sources import folder, manifest
from medssl.errors import UserError

# the first lines of Data_Entry_2017.csv: two header cells hold commas, rows end with one
NIH_2017 = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],
00000001_000.png,Cardiomegaly,0,1,058Y,M,PA,2682,2749,0.143,0.143,
00000001_001.png,Cardiomegaly|Emphysema,1,1,058Y,M,PA,2894,2729,0.143,0.143,
00000002_000.png,No Finding,0,2,081Y,M,PA,2500,2048,0.171,0.171,
"""
NIH_2020 = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
OriginalImageWidth,OriginalImageHeight,OriginalImagePixelSpacing_x,OriginalImagePixelSpacing_y
00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143
00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143
00000002_000.png,No Finding,0,2,80,M,PA,2500,2048,0.171,0.171
"""
CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Edema
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,0.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,-1.0,1.0
CheXpert-v1.0-small/train/patient00002/study2/view2_lateral.jpg,Female,87,Lateral,,,-1.0,1.0
"""


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def listed(root: Path, text: str, name: str = "table.csv", **options):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return manifest.build(manifest.Config(**options), str(root / name))


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    touch(tmp_path, "images_001/images/00000001_000.png", "images_001/images/00000001_001.png", "images_002/images/00000002_000.png")
    return tmp_path


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    root = tmp_path / "CheXpert-v1.0-small"
    touch(root, "train/patient00001/study1/view1_frontal.jpg")
    touch(root, "train/patient00002/study2/view1_frontal.jpg", "train/patient00002/study2/view2_lateral.jpg")
    return root


@pytest.mark.parametrize(("text", "age"), [(NIH_2017, "058Y"), (NIH_2020, "57")])
def test_the_nih_table_finds_its_images_in_sub_folders_and_gives_a_column_for_each_finding(nih: Path, text: str, age: str) -> None:
    first, second, third = listed(nih, text, "Data_Entry_2017.csv").records
    assert first.locator == "images_001/images/00000001_000.png"
    assert (first.patient, first.extra) == ("1", {"sex": "M", "age": age, "view": "PA"})
    assert first.labels == {"Cardiomegaly": "1", "Emphysema": "0"}
    assert second.labels == {"Cardiomegaly": "1", "Emphysema": "1"}
    assert third.labels == {"Cardiomegaly": "0", "Emphysema": "0"}
    assert {record.split for record in (first, second, third)} == {None}


def test_the_nih_lists_beside_the_table_give_the_official_split(nih: Path) -> None:
    (nih / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png")
    (nih / "test_list.txt").write_text("00000002_000.png\r\n")
    assert [record.split for record in listed(nih, NIH_2017).records] == ["train", "train", "test"]


def test_a_table_with_splits_of_its_own_is_not_overruled_by_lists(nih: Path) -> None:
    touch(nih, "1.png", "2.png")
    (nih / "train_val_list.txt").write_text("1.png\n2.png\n")
    (nih / "test_list.txt").write_text("")
    assert [record.split for record in listed(nih, "path,split\n1.png,train\n2.png,test\n").records] == ["train", "test"]


def test_the_nih_table_beside_the_images_says_the_same_and_the_archives_folders_are_no_classes(nih: Path) -> None:
    (nih / "Data_Entry_2017.csv").write_text(NIH_2017)
    source = folder.build(folder.Config(), str(nih))
    assert [dict(record.labels) for record in source.records] == [
        dict(r.labels) for r in listed(nih, NIH_2017, "Data_Entry_2017.csv").records
    ]
    assert any("not taken as classes" in note for note in source.notes)


@pytest.mark.fault("C5", "S8")
def test_rows_of_archives_that_were_not_fetched_are_refused_or_skipped_with_a_count(nih: Path) -> None:
    (nih / "images_002/images/00000002_000.png").unlink()
    with pytest.raises(UserError, match=r"1 files that are not there.*data\.source\.missing=skip: row 4\.") as error:
        listed(nih, NIH_2017)
    assert "00000002" not in str(error.value)
    source = listed(nih, NIH_2017, missing="skip")
    assert len(source.records) == 2
    assert "1 of 3 rows left out: their files are not there" in source.notes
    for file in (nih / "images_001/images").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="none of its files is there"):
        listed(nih, NIH_2017, missing="skip")


@pytest.mark.fault("C5")
@pytest.mark.parametrize("missing", ["error", "skip"])
def test_a_name_that_two_folders_have_is_not_guessed(nih: Path, missing: str) -> None:
    touch(nih, "images_003/images/00000001_001.png")
    with pytest.raises(UserError, match=r"1 files by a name that several.*: row 3\."):
        listed(nih, NIH_2017, missing=missing)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a|b", "b", "normal", ""], [{"a": "1", "b": "1"}, {"a": "0", "b": "1"}, {"a": "0", "b": "0"}, {}]),
        (
            [" a | b |", "c", "a", "b"],
            [{"a": "1", "b": "1", "c": "0"}, {"a": "0", "b": "0", "c": "1"}, {"a": "1", "b": "0", "c": "0"}, None],
        ),
        (["a", "b", "No Finding", ""], [{"label": "a"}, {"label": "b"}, {"label": "No Finding"}, {}]),
    ],
)
def test_a_bar_in_one_cell_of_the_label_column_makes_a_label_of_each_finding(tmp_path: Path, cells: list, expected: list) -> None:
    touch(tmp_path, "0.png", "1.png", "2.png", "3.png")
    records = listed(tmp_path, "path,diagnosis\n" + "".join(f"{n}.png,{cell}\n" for n, cell in enumerate(cells))).records
    assert [dict(record.labels) for record in records][: 4 - (expected[-1] is None)] == [e for e in expected if e is not None]


def test_a_bar_in_a_column_that_is_no_label_is_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "0.png")
    assert listed(tmp_path, "path,patient,label_grade\n0.png,a|b,1|2\n").records[0].labels == {"label_grade": "1|2"}


def test_chexperts_paths_give_patient_study_and_split_and_lie_below_its_own_folder(chexpert: Path) -> None:
    records = listed(chexpert, CHEXPERT, "train.csv").records
    assert [record.locator for record in records] == [line.split(",")[0].partition("/")[2] for line in CHEXPERT.splitlines()[1:]]
    assert [record.patient for record in records] == ["patient00001", "patient00002", "patient00002"]
    assert records[0].study != records[1].study == records[2].study
    assert {record.split for record in records} == {"train"}
    assert [record.extra["view"] for record in records] == ["Frontal", "Frontal", "Lateral"]


def test_chexperts_folder_may_have_another_name(chexpert: Path) -> None:
    assert len(listed(chexpert.rename(chexpert.parent / "chexpert"), CHEXPERT).records) == 3


def test_chexperts_valid_folder_is_val(chexpert: Path) -> None:
    (chexpert / "train").rename(chexpert / "valid")
    assert {record.split for record in listed(chexpert, CHEXPERT.replace("/train/", "/valid/"), "valid.csv").records} == {"val"}


@pytest.mark.parametrize(
    ("options", "second"),
    [
        ({}, {"No Finding": "0", "Edema": "1"}),
        ({"uncertain": "positive"}, {"No Finding": "0", "Enlarged Cardiomediastinum": "1", "Edema": "1"}),
        ({"uncertain": "negative", "unmentioned": "missing"}, {"Enlarged Cardiomediastinum": "0", "Edema": "1"}),
    ],
)
def test_chexperts_uncertain_and_unmentioned_findings_count_as_is_said(chexpert: Path, options: dict, second: dict) -> None:
    assert dict(listed(chexpert, CHEXPERT, **options).records[1].labels) == second


@pytest.mark.fault("C5")
def test_a_finding_marked_otherwise_is_refused_with_its_row_and_column(chexpert: Path) -> None:
    with pytest.raises(UserError, match=r"row 3: the finding 'Edema' is marked with something other"):
        listed(chexpert, CHEXPERT.replace(",-1.0,1.0", ",-1.0,maybe", 1))


@pytest.mark.fault("C4")
def test_a_leading_folder_that_is_not_there_is_no_way_out_of_the_root(chexpert: Path) -> None:
    touch(chexpert.parent, "secret.png")
    for cell in ("elsewhere/../../secret.png", "elsewhere//etc/hostname", "CheXpert-v1.0-small/../secret.png"):
        with pytest.raises(UserError, match=r"row 2.*outside_root|not there.*row 2"):
            listed(chexpert, f"path\n{cell}\n")


@pytest.mark.fault("C4")
def test_a_nul_in_a_parquet_path_is_refused(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"path": ["a\0.png"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="row 2: the path contains a line break or control character"):
        manifest.build(manifest.Config(), str(tmp_path / "t.parquet"))


def test_nifti_rows_give_every_slice_with_what_the_row_says_and_faulty_files_are_skipped(shared_data: Path, tmp_path: Path) -> None:
    packed = gzip.decompress((shared_data / "nifti/avg152T1_LR_nifti.nii.gz").read_bytes())
    (tmp_path / "brain.nii").write_bytes(packed)
    (tmp_path / "no.nii.gz").write_bytes(b"nothing")
    Image.new("L", (20, 20)).save(tmp_path / "p.png")
    source = listed(tmp_path, "path,patient,label\nbrain.nii,00123,a\nno.nii.gz,7,b\np.png,8,b\n")
    slices = [record for record in source.records if record.reader == "nifti"]
    assert [record.index for record in slices] == list(range(91))  # the template is 91 x 109 x 91
    assert {(record.patient, record.series, record.labels["label"]) for record in slices} == {("00123", "brain.nii#0", "a")}
    assert [(record.reader, record.patient) for record in source.records[91:]] == [("raster", "8")]
    assert [locator for locator, _, _ in source.skipped] == ["no.nii.gz"]


@pytest.mark.fault("S8")
def test_no_note_and_no_message_of_a_manifest_holds_a_cell_or_a_name_below_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "DOE_JANE/DOE_1.png", "other/DOE_1.png", "DOE_2.dcm")
    (tmp_path / "DOE_2.dcm").write_bytes(b"not DICOM")
    bad = (
        "path,patient\nDOE_1.png,DOE\n",
        "path,patient\nDOE_9.png,DOE\n",
        "path,patient\n../DOE.png,DOE\n",
        "path,patient\nDOE_2.dcm,DOE\n",
        "path,split\nDOE_JANE/DOE_1.png,DOE\n",
        'path,patient\nDOE_JANE/DOE_1.png,"DOE\nX"\n',
        "path,patient\nDOE_JANE/DOE_1.png,DOE\n./DOE_JANE/DOE_1.png,DOE_2\n",
        "path,patient\nDOE,DOE,DOE\n",
        'path,patient\n"DOE"x,DOE\n',
    )
    for text in bad:
        with pytest.raises(UserError) as error:
            listed(tmp_path, text)
        assert "DOE" not in str(error.value).replace(str(tmp_path), ""), text
    assert "DOE" not in str(listed(tmp_path, "path,patient\nDOE_JANE/DOE_1.png,DOE\n").notes)
