"""What is left out by what it shows: localizers, computed images, screens, burned-in text; and files that are no files."""

import os
import socket
from pathlib import Path

import pydicom
import pytest
from dicoms import build, reasons
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from medssl.config import Limits
from medssl.data.dicom.header import HeaderReader
from medssl.data.dicom.selection import Selection
from medssl.data.sources import manifest
from medssl.errors import ReadError

NOT_PRIMARY = {
    "a CT localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "a radiograph as localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "Modality": "CR"},
    "a reformatted CT": {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MPR"]},
    "a CT map of blood flow": {"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]},
    "a projection of MR": {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"], "Modality": "MR"},
    "a diffusion map": {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], "Modality": "MR"},
    "a CT that only says derived and secondary": {"ImageType": ["DERIVED", "SECONDARY"]},
    "a screen capture of a CT": {"ImageType": ["ORIGINAL", "PRIMARY"], "SOPClassUID": SecondaryCaptureImageStorage},
    "a film of PET": {"SOPClassUID": MultiFrameTrueColorSecondaryCaptureImageStorage, "Modality": "PT"},
    "a saved screen": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "Modality": "US"},
    "a dose report": {"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"], "Modality": "OT"},
}
PRIMARY = {
    "no image type": {"ImageType": None},
    "an original": {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]},
    "a radiograph for presentation": {
        "ImageType": ["DERIVED", "PRIMARY", ""],
        "Modality": "DX",
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
    },
    "a CR that was processed": {"ImageType": ["DERIVED", "SECONDARY"], "Modality": "CR", "SOPClassUID": ComputedRadiographyImageStorage},
    "a mammogram": {"ImageType": ["DERIVED", "PRIMARY", "TOMO_PROJ"], "Modality": "MG"},
    "a digitised film": {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "DX"},
    "a slice that was compressed with loss": {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], "LossyImageCompression": "01"},
    "a slice that was compressed without loss": {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
    "a slice of SPECT": {"ImageType": ["DERIVED", "PRIMARY", "RECON TOMO", "EMISSION"], "Modality": "NM"},
    "a mosaic": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "Modality": "MR"},
}


@pytest.mark.fault("D17")
@pytest.mark.parametrize("kind", NOT_PRIMARY)
def test_what_is_no_primary_image_is_left_out_unless_it_is_wanted(tmp_path, write, kind):
    write(tmp_path / "good.dcm")
    write(tmp_path / "odd.dcm", **NOT_PRIMARY[kind])
    source = build(tmp_path)
    assert reasons(source) == {"odd.dcm": "not_primary"}
    assert "1 localizers, saved screens and images derived from others left out" in "\n".join(source.notes)
    assert len(build(tmp_path, derived="keep").records) == 2


@pytest.mark.fault("D17")
@pytest.mark.parametrize("kind", PRIMARY)
def test_a_primary_image_is_kept_even_where_it_says_derived(tmp_path, write, kind):
    write(tmp_path / "image.dcm", **PRIMARY[kind])
    assert len(build(tmp_path).records) == 1


def test_images_that_a_person_listed_are_taken_even_where_they_are_derived(tmp_path, write):
    write(tmp_path / "map.dcm", ImageType=["DERIVED", "SECONDARY"])
    (tmp_path / "list.csv").write_text("path,label\nmap.dcm,x\n")
    assert len(manifest.build(manifest.Config(), str(tmp_path / "list.csv")).records) == 1


@pytest.mark.fault("D17")
def test_no_real_slice_or_radiograph_is_taken_for_a_derived_one(shared_data):
    """A flow map, and a nuclear scan that was saved as a screen capture, are all that is left out of 90 files."""
    source = build(shared_data / "dicom")
    assert {locator for locator, reason in reasons(source).items() if reason == "not_primary"} == {
        "pydicom-data/eCT_Supplemental.dcm",
        "pydicom-data/JPEG-LL.dcm",
    }


@pytest.mark.fault("S10")
def test_burned_in_text_is_left_out_where_the_header_says_so_unless_it_is_wanted(tmp_path, write):
    write(tmp_path / "yes.dcm", Modality="US", BurnedInAnnotation="YES")
    write(tmp_path / "no.dcm", Modality="US", BurnedInAnnotation="NO")
    source = build(tmp_path)
    assert reasons(source) == {"yes.dcm": "burned_in"}
    assert "1 images that show text by their header left out" in "\n".join(source.notes)
    assert len(build(tmp_path, burned_in="keep").records) == 2


@pytest.mark.fault("S10")
def test_images_that_often_show_text_and_do_not_say_so_are_counted(tmp_path, write):
    for number, modality in enumerate(["US", "US", "XA", "CT", "MR"]):
        write(tmp_path / f"{number}.dcm", Modality=modality)
    write(tmp_path / "no.dcm", Modality="US", BurnedInAnnotation="NO")
    assert "3 files of kinds that often show text do not say whether it is burned in (US 2, XA 1): look at some" in build(tmp_path).notes


@pytest.mark.fault("D18")
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")  # a path that leads out is none
def test_a_dicomdir_is_never_followed(tmp_path, write):
    write(tmp_path / "outside.dcm", PatientID="outside")
    root = tmp_path / "data"
    write(root / "inside.dcm")
    directory, entry = pydicom.Dataset(), pydicom.Dataset()
    entry.DirectoryRecordType, entry.ReferencedFileID = "IMAGE", ["..", "outside.dcm"]
    directory.SOPClassUID, directory.DirectoryRecordSequence = "1.2.840.10008.1.3.10", [entry]
    directory.file_meta = pydicom.dcmread(root / "inside.dcm").file_meta
    directory.save_as(root / "DICOMDIR", enforce_file_format=False)
    source = build(root)
    assert [record.locator for record in source.records] == ["inside.dcm"]
    assert reasons(source) == {"DICOMDIR": "no_pixels"}


@pytest.mark.fault("D19")
@pytest.mark.parametrize("head", [b"MZ\x90\0", b"\x7fELF"])
def test_a_program_in_the_preamble_is_told_and_the_image_read(tmp_path, write, head):
    write(tmp_path / "program.dcm")
    raw = (tmp_path / "program.dcm").read_bytes()
    (tmp_path / "program.dcm").write_bytes(head + b"CANARY" * 20 + raw[124:])
    (tmp_path / "tiff.dcm").write_bytes(b"II*\0" + raw[4:])
    source = build(tmp_path)
    assert len(source.records) == 2
    assert [note for note in source.notes if note.startswith("1 files begin with 128 bytes that are neither unused nor TIFF")]
    assert "CANARY" not in repr(source)


@pytest.mark.fault("D7")
def test_an_empty_rescale_is_told(tmp_path, write):
    write(tmp_path / "empty.dcm", RescaleSlope="", RescaleIntercept="0")
    write(tmp_path / "full.dcm", RescaleSlope="1", RescaleIntercept="0")
    write(tmp_path / "none.dcm")
    assert "1 files have an empty rescale slope or intercept: read as if it were absent" in build(tmp_path).notes


@pytest.mark.fault("D22")
def test_what_is_no_regular_file_is_left_out_and_nothing_hangs(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    root = Path("d")
    write(root / "good.dcm")
    (root / "folder.dcm").mkdir()
    os.mkfifo(root / "pipe.dcm")
    (root / "dangling.dcm").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("d/socket.dcm")
        assert reasons(build(root)) == {"pipe.dcm": "not_a_file", "socket.dcm": "not_a_file", "dangling.dcm": "not_a_file"}


@pytest.mark.fault("D22")
def test_a_file_that_may_not_be_read_is_left_out_with_the_systems_word(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(tmp_path / "secret.dcm"))

    monkeypatch.setattr(Path, "open", refuse)  # root may read any file, so that its mode shows nothing here
    with pytest.raises(ReadError, match=r"^unreadable: Permission denied$"):
        HeaderReader(tmp_path, Limits(), Selection())("secret.dcm")
