import os
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import build, reasons
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from medssl.config import Limits
from medssl.data.dicom.header import HeaderReader
from medssl.data.dicom.selection import Selection
from medssl.data.sources import dicom
from medssl.errors import ReadError, UserError


@pytest.mark.fault("D12")
def test_radiographs_are_listed_with_and_without_preamble_and_suffix(shared_data):
    source = build(shared_data / "dicom/chest")
    records = {record.locator: record for record in source.records}
    assert set(records) == {"CR-MONO1-10-chest.dcm", "CR-MONO1-10-chest_noheader", "nih_dx.dcm"}
    assert records["nih_dx.dcm"].patient == "Covid0000"
    assert records["CR-MONO1-10-chest.dcm"].extra == {"view": "PA", "scanner": "FUJI PHOTO FILM CO. LTD. 9000", "modality": "CR"}
    assert "transfer syntaxes: Implicit VR Little Endian 2, Explicit VR Little Endian 1" in source.notes


@pytest.mark.fault("D2", "D5", "D18")
def test_every_frame_is_a_record_and_what_is_no_picture_is_skipped_with_its_reason(shared_data):
    source = build(shared_data / "dicom/odd")
    assert len(source.records) == 16 + 96 + 3  # two multi-frame files and three single images, by expected_dicom.csv
    assert [record.index for record in source.records if record.locator == "explicit_little.dcm"] == list(range(16))
    assert reasons(source) == {"DICOMDIR": "no_pixels", "dwv-test_no-number-rows.dcm": "no_pixels"}


@pytest.mark.fault("D10")
def test_segmentations_are_no_images(shared_data):
    source = build(shared_data / "dicom/pydicom-data")
    assert {locator for locator, reason in reasons(source).items() if reason == "not_an_image"} == {
        "liver.dcm",
        "liver_deflate.dcm",
        "liver_nonbyte_aligned_j2k.dcm",
        "liver_rle.dcm",
    }


@pytest.mark.fault("D2", "D12")
def test_none_of_pydicoms_odd_files_ends_the_listing():
    source = build(Path(pydicom.__file__).parent / "data/test_files")
    skipped = reasons(source)
    assert skipped["rtplan.dcm"] == skipped["reportsi.dcm"] == skipped["waveform_ecg.dcm"] == "no_pixels"
    assert skipped["README.txt"] == "not_dicom"
    assert sum(record.locator == "examples_ybr_color.dcm" for record in source.records) == 30


def test_without_a_patient_id_the_study_and_then_the_file_keep_images_together(tmp_path, write):
    write(tmp_path / "a1.dcm", PatientID="", StudyInstanceUID="1.5")
    write(tmp_path / "a2.dcm", PatientID=None, StudyInstanceUID="1.5")
    write(tmp_path / "b.dcm", b"\0" * 32, PatientID=" ", StudyInstanceUID=None, NumberOfFrames=2)
    write(tmp_path / "c.dcm", PatientID="p", StudyInstanceUID="1.6")
    source = build(tmp_path)
    assert [record.patient for record in source.records] == ["1.5", "1.5", "b.dcm", "b.dcm", "p"]
    assert any("4 images have no patient ID" in note for note in source.notes)


def test_one_patient_id_on_all_images_is_noted(tmp_path, write):
    write(tmp_path / "1.dcm")
    write(tmp_path / "2.dcm")
    assert any("same patient ID" in note for note in build(tmp_path).notes)


@pytest.mark.fault("D13")
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Rows": None}, "bad_header"),
        ({"Rows": None, "Modality": "RTPLAN"}, "no_pixels"),
        ({"Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "no_pixels"),
        ({"Modality": "RTDOSE"}, "not_an_image"),
        ({"Rows": 0}, "bad_header"),
        ({"NumberOfFrames": -1}, "bad_header"),
        ({"NumberOfFrames": 2**31 - 1}, "bad_header"),
        ({"NumberOfFrames": 3, "Rows": 400, "Columns": 400}, "bad_header"),  # needs 480 000 bytes
    ],
)
def test_headers_that_describe_no_image_are_skipped(tmp_path, tags, reason, write):
    write(tmp_path / "good.dcm")
    write(tmp_path / "odd.dcm", **tags)
    assert reasons(build(tmp_path)) == {"odd.dcm": reason}


@pytest.mark.fault("D13")
def test_a_frame_number_that_is_no_number_is_skipped(tmp_path, write):
    write(tmp_path / "good.dcm")
    write(tmp_path / "odd.dcm", NumberOfFrames=10)
    raw = (tmp_path / "odd.dcm").read_bytes()
    (tmp_path / "odd.dcm").write_bytes(raw.replace(b"IS\x02\x0010", b"IS\x02\x001A"))
    assert reasons(build(tmp_path)) == {"odd.dcm": "bad_header"}


@pytest.mark.fault("D21")
def test_six_hundred_nested_sequences_do_not_end_the_listing(tmp_path, write):
    write(tmp_path / "good.dcm")
    write(tmp_path / "plain.dcm")
    raw = (tmp_path / "plain.dcm").read_bytes()
    nest = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    (tmp_path / "nested.dcm").write_bytes(raw[: raw.index(b"\x10\x00\x20\x00LO")] + nest * 600)
    source = build(tmp_path)
    assert "good.dcm" in {record.locator for record in source.records}
    assert "nested.dcm" in reasons(source)


def test_a_file_whose_rest_was_filled_with_zeros_does_not_take_minutes(tmp_path, write):
    write(tmp_path / "good.dcm")
    raw = (tmp_path / "good.dcm").read_bytes()
    (tmp_path / "zeros.dcm").write_bytes(raw[: raw.index(b"\x10\x00\x20\x00LO")] + bytes(20 << 20))
    start = time.process_time()
    assert reasons(build(tmp_path)) == {"zeros.dcm": "bad_header"}
    assert time.process_time() - start < 2


@pytest.mark.fault("D20")
def test_a_deflated_bomb_is_skipped_before_it_is_inflated_in_memory(tmp_path, write):
    write(tmp_path / "good.dcm")
    raw = (tmp_path / "good.dcm").read_bytes()
    meta = raw[: raw.index(b"\x08\x00\x16\x00UI")].replace(ExplicitVRLittleEndian.encode() + b"\0", DeflatedExplicitVRLittleEndian.encode())
    packer = zlib.compressobj(wbits=-15)
    zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(60)) + packer.flush()
    length = len(DeflatedExplicitVRLittleEndian)
    meta = meta.replace(b"\x02\x00\x10\x00UI\x14\x00", b"\x02\x00\x10\x00UI" + length.to_bytes(2, "little"))
    (tmp_path / "bomb.dcm").write_bytes(meta + zeros)
    assert len(zeros) < 1 << 20
    tracemalloc.start()
    with pytest.raises(ReadError, match=r"^deflated_too_big: "):
        HeaderReader(tmp_path, Limits(max_pixels=1_000_000), Selection())("bomb.dcm")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    assert reasons(build(tmp_path, limits=Limits(max_pixels=1_000_000))) == {"bomb.dcm": "deflated_too_big"}


def test_a_deflated_image_within_the_limits_is_listed_and_beyond_them_skipped(shared_data, tmp_path, write):
    write(tmp_path / "good.dcm")
    (tmp_path / "deflated.dcm").write_bytes((shared_data / "dicom/odd/deflated.dcm").read_bytes())
    assert len(build(tmp_path).records) == 2
    assert reasons(build(tmp_path, limits=Limits(max_pixels=50_000))) == {"deflated.dcm": "deflated_too_big"}


@pytest.mark.fault("D22")
def test_pipes_and_text_and_unreadable_files_are_skipped_and_a_pipe_does_not_hang(tmp_path, write):
    write(tmp_path / "good.dcm")
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "notes.dcm").write_text("no DICOM at all")
    (tmp_path / "empty").write_bytes(b"")
    assert reasons(build(tmp_path)) == {"pipe.dcm": "not_a_file", "notes.dcm": "not_dicom", "empty": "empty"}


@pytest.mark.fault("D1")
def test_a_file_cut_within_its_header_is_a_fault_and_no_report(tmp_path, write):
    write(tmp_path / "good.dcm")
    write(tmp_path / "cut.dcm")
    raw = (tmp_path / "cut.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(raw[: raw.index(b"\x28\x00\x10\x00") - 3])
    (tmp_path / "cut early.dcm").write_bytes(raw[: raw.index(b"\x08\x00\x16\x00")])  # behind the file meta information
    assert reasons(build(tmp_path)) == {"cut.dcm": "bad_header", "cut early.dcm": "bad_header"}


def test_a_table_is_joined_by_path_and_may_list_files_that_are_no_images(tmp_path, write):
    write(tmp_path / "a" / "1.dcm", PatientID="header")
    write(tmp_path / "b" / "2.dcm", PatientID="header2")
    write(tmp_path / "report.dcm", Rows=None)
    (tmp_path / "labels.csv").write_text("path,patient,finding\na/1.dcm,table,x\n2.dcm,table,y\nreport.dcm,table,z\n")
    source = build(tmp_path)
    assert [(record.patient, record.labels["label"], record.study) for record in source.records] == [
        ("table", "x", "1.2"),
        ("table", "y", "1.2"),
    ]


def test_a_folder_without_dicom_images_says_why_in_numbers_and_names_no_file(tmp_path, write):
    write(tmp_path / "jane_doe" / "report.dcm", Rows=None, Modality="SR")
    write(tmp_path / "plan.dcm", Rows=None, Modality="RTPLAN")
    write(tmp_path / "us.dcm", Modality="US", BurnedInAnnotation="YES")
    with pytest.raises(UserError, match=r"(?s)no DICOM image.*2 x no_pixels, 1 x burned_in.*--set data\.source\.burned_in=keep") as caught:
        build(tmp_path)
    assert not [name for name in ("jane", "report", "plan.dcm", "us.dcm") if name in str(caught.value)]


def test_what_is_said_of_a_damaged_header_quotes_none_of_it(tmp_path, write):
    write(tmp_path / "good.dcm")
    write(tmp_path / "odd.dcm", NumberOfFrames=1234567890)
    raw = (tmp_path / "odd.dcm").read_bytes()
    (tmp_path / "odd.dcm").write_bytes(raw.replace(b"1234567890", b"DOE^JANE12"))
    write(tmp_path / "report.dcm", Rows=None, Modality="DOE_JANE")
    source = build(tmp_path)
    assert reasons(source) == {"odd.dcm": "bad_header", "report.dcm": "bad_header"}
    assert "DOE" not in str([detail for *_, detail in source.skipped]) + str(source.notes)


def test_a_folder_of_pictures_with_a_stray_dicom_file_is_no_dicom_folder(tmp_path, write):
    write(tmp_path / "stray.dcm")
    assert dicom.recognises(str(tmp_path))
    for number in range(3):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"{number}.png")
    assert not dicom.recognises(str(tmp_path))
