"""A table beside the images that cannot be used: the images are listed without it, and the source says why."""

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from medssl.data.sources import dicom, folder, manifest, nifti
from medssl.errors import UserError

# name -> (the content of labels.csv, a part of what is said)
UNUSABLE = {
    "no column names the images": (
        b"case,label\n77,x\n",
        "no column names the images; it has 'case', 'label'. Name one 'path', or choose one",
    ),
    "Latin-1": ("path,label\na/1.png,Männlich\n".encode("latin-1"), "not UTF-8"),
    "a NUL": (b"path,label\na/1.png,\0\n", "NUL"),
    "an open quote": (b'path,label\n"a/1.png,x\n', "row"),
    "cells too many": (b"path,label\na/1.png,x,y\n", "3 cells under 2 columns"),
    "several classes of one image": (b"path,label\na/1.png,x\na/1.png,y\nb/2.png,y\n", "data.source.merge=any; if the most frequent"),
    "a column twice": (b"path,label,label\na/1.png,x,y\n", "occurs twice"),
    "two columns for the patient": (b"path,pid,mrn\na/1.png,x,y\n", "could all be the patient"),
    "empty": (b"", "no column names the images"),
    "a header alone": (b"path,label\n", "no rows"),
    "an unknown split": (b"path,split\na/1.png,later\n", "the split is unknown"),
    "no file that is there": (b"path,label\ngone.png,a\n", "column 'path' names none of the 2 images found. Correct its paths"),
    "a file twice": (b"path,patient\na/1.png,x\na/1.png,y\n", "files twice"),
    "a file outside": (b"path,label\n../1.png,x\n", "outside_root"),
    "other labels than the folders": (b"path,label\na/1.png,b\nb/2.png,b\n", "contradicts the class folders"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_the_images_are_listed_without_a_table_that_cannot_be_used(case, tmp_path):
    content, said = UNUSABLE[case]
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name)
    alone = folder.build(folder.Config(), str(tmp_path))
    (tmp_path / "labels.csv").write_bytes(content)
    source = folder.build(folder.Config(), str(tmp_path))
    assert source.records == alone.records
    assert said in source.table_error
    assert source.table_error.startswith("The table beside the images")
    for options in ({"table": "labels.csv"}, {"columns": {"path": "path"}}, {"labels": ("label",)}):
        with pytest.raises(UserError):
            folder.build(folder.Config.model_validate(options), str(tmp_path))
    ignored = folder.build(folder.Config(table=("none",)), str(tmp_path))
    assert (ignored.records, ignored.table_error) == (alone.records, "")


def test_a_table_that_can_be_used_is_not_if_it_is_to_be_ignored(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text("path,patient\n1.png,x\n")
    assert [record.patient for record in folder.build(folder.Config(), str(tmp_path)).records] == ["x"]
    assert [record.patient for record in folder.build(folder.Config(table=("none",)), str(tmp_path)).records] == [None]


def test_a_table_that_is_named_and_not_there_is_an_error(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"no table 'other\.csv'"):
        folder.build(folder.Config(table=("other.csv",)), str(tmp_path))


def test_dicom_and_nifti_files_keep_what_they_say_themselves_without_the_table(tmp_path, write):
    for kind in ("dicom", "nifti"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "notes.csv").write_text("what,when\nnothing,never\n")
    write(tmp_path / "dicom/1.dcm", PatientID="p")
    Nifti1Image(np.zeros((6, 5, 1), np.int16), np.eye(4)).to_filename(tmp_path / "nifti/1.nii")
    sources = [dicom.build(dicom.Config(), str(tmp_path / "dicom")), nifti.build(nifti.Config(), str(tmp_path / "nifti"))]
    assert [[record.patient for record in source.records] for source in sources] == [["p"], ["1.nii"]]
    assert all("no column names the images" in source.table_error for source in sources)


@pytest.mark.parametrize("column", ["path", "folder"])
@pytest.mark.parametrize("before", ["", "scans/", "/gpfs/x/scans/"])
def test_a_row_for_each_folder_of_slices_labels_all_of_them(tmp_path, write, column, before):
    """The numbers of the patients are those of slices, too: they must not name single slices together with the folder."""
    for patient in range(1, 4):
        for k in range(1, 5):
            write(tmp_path / f"scans/Pat {patient}/{k:03}.dcm", StudyInstanceUID=f"1.{patient}", SeriesInstanceUID=f"1.{patient}.1")
    rows = "".join(f"{before}Pat {patient},{patient},{'ab'[patient % 2]}\n" for patient in range(1, 4))
    (tmp_path / "scans/labels.csv").write_text(f"{column},patient_id,label\n{rows}")
    source = dicom.build(dicom.Config(), str(tmp_path / "scans"))
    assert [(r.patient, r.labels["label"]) for r in source.records] == [(str(n), "ab"[n % 2]) for n in (1, 2, 3) for _ in range(4)]
    if not before.startswith("/"):
        (tmp_path / "scans/labels.csv").rename(tmp_path / ("labels.csv" if before else "scans/labels.csv"))
        listed = manifest.build(manifest.Config(), str(tmp_path / ("labels.csv" if before else "scans/labels.csv")))
        assert [record.labels for record in listed.records] == [record.labels for record in source.records]
