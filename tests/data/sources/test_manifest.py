import pandas as pd
import pytest

from medssl.data.sources import manifest
from medssl.errors import UserError


@pytest.fixture
def root(tmp_path):
    """A folder with three empty images, one of them deeper."""
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    for name in ("1.png", "2.png", "deep/3.png"):
        (folder / name).write_bytes(b"")
    return folder


def build(root, content, name="m.csv", **options):
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return manifest.build(manifest.Config(**options), str(root / name))


def test_the_nih_table_alone_gives_the_same_records_as_its_folder(shared_data):
    source = manifest.build(manifest.Config(), str(shared_data / "chestxray/nih_pneumonia_224/labels.csv"))
    assert len(source.records) == 761
    assert len({record.patient for record in source.records}) == 511
    assert source.records[0].labels == {"label": "Pneumonia"}
    assert {record.reader for record in source.records} == {"raster"}


@pytest.mark.fault("C1")
def test_text_stays_text(root):
    source = build(root, "path,patient,label\n1.png,00123,07\n2.png,1e5,None\ndeep/3.png,NULL,mild\n")
    assert [(record.patient, record.labels["label"]) for record in source.records] == [("00123", "07"), ("1e5", "None"), ("NULL", "mild")]


def test_all_roles_are_understood_by_name(root):
    source = build(
        root,
        "Filename,Subject_ID,StudyInstanceUID,Hospital,Subset,Diagnosis,Gender,Age,Projection,Scanner,ignored\n"
        "1.png,p,s,h,Validation,d,F,40,PA,c,x\n",
    )
    record = source.records[0]
    assert (record.patient, record.study, record.site, record.split) == ("p", "s", "h", "val")
    assert record.labels == {"label": "d"}
    assert record.extra == {"sex": "F", "age": "40", "view": "PA", "scanner": "c"}


def test_mapped_columns_and_named_labels_are_used(root):
    source = build(
        root,
        "scan,case_no,kind,label_b,grade\n1.png,7,x,y,3\n",
        columns={"path": "scan", "patient": "case_no", "label": "kind"},
        labels=["grade"],
    )
    assert source.records[0].patient == "7"
    assert source.records[0].labels == {"label": "x", "label_b": "y", "grade": "3"}


def test_columns_that_could_all_be_the_label_are_labels_under_their_own_names(root):
    assert build(root, "path,class,target,other\n1.png,a,b,c\n").records[0].labels == {"class": "a", "target": "b"}


def test_a_column_that_is_named_as_a_label_is_one_beside_its_role_and_a_missing_one_is_none(root):
    record = build(root, "path,diagnosis,sex\n1.png,a,f\n", labels=["sex", "diagnosis", "gone"]).records[0]
    assert (record.labels, record.extra) == ({"label": "a", "diagnosis": "a", "sex": "f"}, {"sex": "f"})


def test_an_empty_label_is_no_label(root):
    assert [dict(record.labels) for record in build(root, "path,label\n1.png,\n2.png,a\n").records] == [{}, {"label": "a"}]


@pytest.mark.fault("C3")
def test_a_byte_order_mark_blank_lines_and_quoted_commas_are_fine(root):
    source = build(root, b'\xef\xbb\xbfpath,label\r\n\r\n1.png,"a, b"\r\n')
    assert source.records[0].labels == {"label": "a, b"}


def test_parquet_is_read_as_text_and_null_as_empty(root):
    pd.DataFrame({"path": ["1.png", "2.png"], "patient": [7, 8], "label": ["a", None], "vector": [[1], [2]]}).to_parquet(root / "m.parquet")
    source = manifest.build(manifest.Config(), str(root / "m.parquet"))
    assert [(record.patient, dict(record.labels)) for record in source.records] == [("7", {"label": "a"}), ("8", {})]


@pytest.mark.fault("C4")
def test_windows_separators_dots_and_absolute_paths_inside_the_root_name_the_same_file(root):
    for cell in ("deep\\3.png", "./deep/../deep/3.png", str(root / "deep" / "3.png")):
        assert [record.locator for record in build(root, f"path\n{cell}\n").records] == ["deep/3.png"]


@pytest.mark.fault("C4", "S5", "S8")
@pytest.mark.parametrize(
    "cell", ["../secret.png", "..\\secret.png", "deep/../../secret.png", "/etc/hostname", "link.png", "linked/secret.png", ".."]
)
def test_a_path_outside_the_root_is_refused_with_its_row(root, cell):
    (root.parent / "secret.png").write_bytes(b"")
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "linked").symlink_to(root.parent)
    with pytest.raises(UserError, match=r"row 3: .*outside_root") as error:
        build(root, f"path\n1.png\n{cell}\n")
    assert "secret" not in str(error.value)


@pytest.mark.fault("C1", "C2", "C3", "C4", "C5", "S7")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n1.png,a\n2.png,b,c\n", r"row 3: 3 cells under 2 columns"),
        ("path,label\n1.png\n", r"row 2: 1 cells under 2 columns"),
        ("path,label,label\n1.png,a,b\n", r"row 1: the column 'label' occurs twice"),
        ("path,label\n1.png,a\n2.png,M\xfcller\n".encode("latin-1"), r"row 3, byte 26: not UTF-8"),
        (b"path,label\n1.p\0ng,a\n", r"byte 14: a NUL"),
        ('path,label\n"1\n.png",a\n', r"row 2: the path contains a line break"),
        ('path,label\n"1.png"x,a\n', r"row 2: .*expected after"),
        ("path,label\n,a\n", r"row 2: the path is empty"),
        ("path,patient\n1.png,p\n2.png,\n", r"row 3: the patient is empty"),
        ("path,split\n1.png,holdout\n", r"row 2: the split is unknown.*train, val or test"),
        ("thing,label\nfirst,a\n", r"no column names the images; it has 'thing', 'label'"),
        ("path,pid,subject\n1.png,a,b\n", r"pid, subject could all be the patient.*columns\.patient=pid"),
        ("path,label\n", r"no rows"),
        ("", r"no column names the images; it has none"),
        ("path\n1.png\ngone.png\n", r"1 files that are not there.*missing=skip: row 3\.$"),
        ("path,patient\n1.png,p\n./1.png,q\n", r"1 files twice, with another patient.*: row 3\.?$"),
        ("path\ndeep\n", r"1 files that are not there"),
        ("path\n" + "x" * 300 + ".png\n", r"1 files that are not there"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused_with_the_place(root, content, message):
    with pytest.raises(UserError, match=message):
        build(root, content)


def test_a_damaged_parquet_file_is_named(root):
    with pytest.raises(UserError, match=r"m\.parquet cannot be read"):
        build(root, "PAR1 but not really", "m.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"path": "pth"}}, r"no column 'pth'. Did you mean 'path'"),
        ({"columns": {"patientt": "path"}}, r"'patientt' is no role.*'patient'"),
    ],
)
def test_a_wrong_mapping_names_its_nearest(root, options, message):
    with pytest.raises(UserError, match=message):
        build(root, "path\n1.png\n", **options)


def test_dicom_rows_give_every_frame_and_the_headers_fill_what_the_table_leaves_out(shared_data, tmp_path):
    (tmp_path / "two_frames").write_bytes((shared_data / "dicom/pydicom-data/SC_rgb_2frame.dcm").read_bytes())
    (tmp_path / "one.dcm").write_bytes((shared_data / "dicom/chest/nih_dx.dcm").read_bytes())
    source = build(tmp_path, "path,label\none.dcm,a\ntwo_frames,b\n")
    assert [(record.locator, record.reader, record.index, record.labels["label"], record.patient) for record in source.records] == [
        ("one.dcm", "dicom", 0, "a", "Covid0000"),
        ("two_frames", "dicom", 0, "b", "ID1"),
        ("two_frames", "dicom", 1, "b", "ID1"),
    ]
