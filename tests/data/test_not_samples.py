"""Folders as people have them, with masks, overlays, thumbnails, icons and derived objects beside the images: what becomes a record."""

from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from medssl.data.detect import detect
from medssl.data.sources import dicom, folder, manifest, nifti
from medssl.types import Source

SIZE = 48
RNG = np.random.default_rng(0)


def image(level: float = 120, size: int = SIZE) -> np.ndarray:
    return np.clip(RNG.normal(level, 30, (size, size)), 0, 255).astype(np.uint8)


def mask(levels: int = 1, size: int = SIZE) -> np.ndarray:
    yy, xx = np.mgrid[:size, :size]
    x, y = RNG.uniform(size / 3, 2 * size / 3, 2)
    return (255 * (((xx - x) ** 2 + (yy - y) ** 2 < (size / 5) ** 2) * (1 + xx % levels) / levels)).astype(np.uint8)


def save(pixels: np.ndarray, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def volume(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-1, -1, 1, 1])), path)


def brain() -> np.ndarray:
    inside = np.add.outer((np.arange(32) - 16) ** 2, (np.arange(32) - 16) ** 2) < 100
    return np.where(inside[..., None], RNG.normal(300, 40, (32, 32, 8)), 0).astype(np.int16)


def lesion() -> np.ndarray:
    x, y = RNG.integers(8, 20, 2)
    values = np.zeros((32, 32, 8), np.uint8)
    values[x : x + 6, y : y + 6, 2:6] = 4
    return values


def build(root: Path, **options: object) -> Source:
    return folder.build(folder.Config.model_validate(options), str(root))


def left_out(source: Source) -> Counter[str]:
    return Counter(reason for _, reason, _ in source.skipped)


# image and mask of one case, as published sets and annotation tools name them
PAIRS = [
    ("benign/benign ({n}).png", "benign/benign ({n})_mask.png"),  # BUSI
    ("images/{n}.png", "masks/{n}.png"),  # Kvasir-SEG
    ("NORMAL/images/NORMAL-{n}.png", "NORMAL/masks/NORMAL-{n}.png"),  # COVID-19 Radiography Database
    ("Original/{n}.tif", "Ground Truth/{n}.tif"),  # CVC-ClinicDB
    ("ISIC_{n:07}.jpg", "ISIC_{n:07}_segmentation.png"),  # ISIC 2018
    ("CXR_png/CHNCXR_{n:04}_0.png", "mask/CHNCXR_{n:04}_0_mask.png"),  # Shenzhen
    ("images/{n:02}_training.tif", "1st_manual/{n:02}_manual1.gif"),  # DRIVE
    ("train_{n}.bmp", "train_{n}_anno.bmp"),  # GlaS
    ("TCGA_{n}/TCGA_{n}_1.tif", "TCGA_{n}/TCGA_{n}_1_mask.tif"),  # LGG segmentation
    ("IMD{n:03}/IMD{n:03}_Dermoscopic_Image/IMD{n:03}.bmp", "IMD{n:03}/IMD{n:03}_lesion/IMD{n:03}_lesion.bmp"),  # PH2
    ("Image_{n:02}L.jpg", "Image_{n:02}L_1stHO.png"),  # CHASE_DB1
    ("scans/{n}.jpg", "scans/{n}.png"),  # the same name, no telling word
    ("img/case{n}.png", "ManualMask/leftMask/case{n}.png"),  # Montgomery
    ("p{n}/image.png", "p{n}/labelmap.png"),
    ("x/{n}.png", "y/gt_{n}.png"),
    ("case{n}/photo.png", "case{n}/tumour.png"),
]


@pytest.mark.parametrize(("picture", "partner"), PAIRS)
def test_masks_are_left_out_and_counted_and_kept_where_the_user_says_so(tmp_path, picture, partner):
    for n in range(1, 9):
        save(image(), tmp_path / picture.format(n=n))
        save(mask(), tmp_path / partner.format(n=n))
    source = build(tmp_path)
    assert sorted(record.locator for record in source.records) == sorted(picture.format(n=n) for n in range(1, 9))
    assert left_out(source) == {"mask": 8}
    assert any("8 masks" in note and "data.source.masks=keep" in note for note in source.notes)
    assert len(build(tmp_path, masks="keep").records) == 16


@pytest.mark.parametrize("kind", ["JPEG", "labels", "colour", "16 bits", "half the size"])
def test_masks_of_any_coding_are_told_by_their_content(tmp_path, kind):
    for n in range(6):
        save(image(), tmp_path / f"{n}.png")
        if kind == "JPEG":
            save(mask(), tmp_path / f"{n}_mask.jpg", quality=75)
        elif kind == "colour":
            save(np.stack([mask(), np.zeros_like(mask()), mask()], -1), tmp_path / f"{n}_mask.png")
        elif kind == "labels":
            save(mask(40), tmp_path / f"{n}_mask.png")
        elif kind == "half the size":
            save(mask(size=SIZE // 2), tmp_path / f"{n}_mask.png")
        else:
            save(np.repeat(np.repeat(RNG.integers(0, 900, (6, 6), np.uint16), 8, 0), 8, 1), tmp_path / f"{n}_mask.png")
    assert left_out(build(tmp_path)) == {"mask": 6}


@pytest.mark.parametrize("classes", [("mask", "no_mask"), ("with_mask", "without_mask"), ("mask", "normal"), ("label", "seg"), ("0", "1")])
@pytest.mark.parametrize("same_names", [False, True])
def test_classes_whose_names_are_words_for_masks_stay(tmp_path, classes, same_names):
    """As in a set of faces with and without masks."""
    face = image(size=SIZE).astype(int)
    for number, name in enumerate(classes):
        for n in range(8):
            save(
                np.clip(face + RNG.normal(0, 25, face.shape), 0, 255).astype(np.uint8),
                tmp_path / f"{name}/{n if same_names else n + 8 * number}.png",
            )
    source = build(tmp_path)
    assert Counter(record.labels["label"] for record in source.records) == dict.fromkeys(classes, 8)
    assert not source.skipped


def test_a_data_set_of_masks_alone_stays(tmp_path):
    for n in range(6):
        save(mask(), tmp_path / f"case{n}_mask.png")
    assert len(build(tmp_path).records) == 6


def test_images_that_are_repeated_under_numbered_names_stay(tmp_path):
    for n in range(6):
        for view in ("", "_1", "_2"):
            save(image(), tmp_path / f"{n:02}{view}.png")
    source = build(tmp_path)
    assert len(source.records) == 18
    assert not source.skipped


def test_pictures_named_like_masks_that_are_none_stay_and_this_is_said(tmp_path):
    for n in range(6):
        save(image(), tmp_path / f"{n}.png")
        save(image(), tmp_path / f"{n}_seg.png")
    source = build(tmp_path)
    assert len(source.records) == 12
    assert any(note.startswith("6 files are named like masks") for note in source.notes)


def test_overlays_and_thumbnails_are_left_out_by_their_likeness_to_the_image(tmp_path):
    for n in range(6):
        picture = np.kron(RNG.integers(20, 230, (8, 8)), np.ones((8, 8))) + RNG.normal(0, 6, (64, 64))
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        drawn = np.stack([picture] * 3, -1)
        drawn[20:30, 20:40] = 255, 0, 0
        save(picture, tmp_path / f"{n}.png")
        save(drawn, tmp_path / f"{n}_annotated.png")
        Image.fromarray(picture).resize((16, 16)).save(tmp_path / f"{n}_thumb.png")
    source = build(tmp_path)
    assert sorted(record.locator for record in source.records) == [f"{n}.png" for n in range(6)]
    assert left_out(source) == {"overlay": 6, "thumbnail": 6}


def test_the_icons_of_a_viewer_are_left_out_beside_larger_pictures(tmp_path):
    for n in range(8):
        save(image(size=200), tmp_path / f"export/{n}.png")
    for n in range(5):
        save(image(size=24), tmp_path / f"viewer/icons/{n}.gif")
    assert left_out(build(tmp_path)) == {"icon": 5}


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["{n:03}/{n:03}_flair.nii", "{n:03}/{n:03}_t1.nii", "{n:03}/{n:03}_t1ce.nii"], "{n:03}/{n:03}_seg.nii"),  # BraTS
        (["imagesTr/case_{n:03}_0000.nii.gz", "imagesTr/case_{n:03}_0001.nii.gz"], "labelsTr/case_{n:03}.nii.gz"),  # nnU-Net
        (["case_{n:05}/imaging.nii.gz"], "case_{n:05}/segmentation.nii.gz"),  # KiTS
        (["volume-{n}.nii"], "segmentation-{n}.nii"),  # LiTS
        (["s{n:04}/ct.nii.gz"], "s{n:04}/segmentations/liver.nii.gz"),  # TotalSegmentator
        (["sub-{n:02}/anat/sub-{n:02}_T1w.nii.gz"], "derivatives/sub-{n:02}/anat/sub-{n:02}_desc-brain_mask.nii.gz"),  # BIDS
        (["p{n}_frame01.nii"], "p{n}_frame01_gt.nii"),  # ACDC
        (["p{n}/flair.nii", "p{n}/t1.nii"], "p{n}/lesion.nii"),
        (["sub{n}/mri/orig.nii"], "sub{n}/mri/aparc+aseg.nii"),  # FreeSurfer
    ],
)
def test_label_volumes_beside_their_images_are_left_out(tmp_path, names, label):
    for n in range(5):
        for name in names:
            volume(tmp_path / name.format(n=n), brain())
        volume(tmp_path / label.format(n=n), lesion())
    source = nifti.build(nifti.Config(), str(tmp_path))
    assert {record.locator for record in source.records} == {name.format(n=n) for n in range(5) for name in names}
    assert left_out(source) == {"mask": 5}
    assert len({r.locator for r in nifti.build(nifti.Config(masks="keep"), str(tmp_path)).records}) == 5 * (len(names) + 1)


@pytest.mark.parametrize("name", ["sub-{n}_label-GM_probseg.nii.gz", "sub-{n}_desc-brain_probseg.nii.gz"])
def test_probabilities_of_bids_are_masks_though_they_have_many_values(tmp_path, name):
    for n in range(3):
        volume(tmp_path / f"sub-{n}/anat/sub-{n}_T1w.nii.gz", brain())
        volume(tmp_path / f"derivatives/sub-{n}/anat" / name.format(n=n), RNG.random(brain().shape))
    assert left_out(nifti.build(nifti.Config(), str(tmp_path))) == {"mask": 3}


def write_dicom(path: Path, sop_class: str = CTImageStorage, modality: str = "CT", size: int = 64, **elements: object) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = {
        "SOPClassUID": sop_class, "SOPInstanceUID": generate_uid(), "Modality": modality, "PatientID": "p", "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3", "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "Rows": size, "Columns": size,
        "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, **elements,
    }  # fmt: skip
    for name, value in values.items():
        setattr(ds, name, value)
    ds.PixelData = RNG.integers(0, 4096, (size, size), np.uint16).tobytes()
    ds["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("name", ["{n:08}", "1.2.840.{n}", "IM{n}.IMA", "{n}.dicom", "{n}.jpg"])
def test_dicom_is_told_by_content_and_wins_against_the_icons_of_a_viewer(tmp_path, name):
    for n in range(300):
        save(image(size=32), tmp_path / f"BIN/help/icon{n}.png")
    for n in range(6):
        write_dicom(tmp_path / "PAT" / name.format(n=n))
    assert detect(str(tmp_path)) == "dicom"
    source = dicom.build(dicom.Config(), str(tmp_path))
    assert len(source.records) == 6
    assert "files that are no DICOM left out: 300 .png" in source.notes


def test_a_few_dicom_files_beside_many_pictures_do_not_make_a_dicom_folder(tmp_path):
    for n in range(2):
        write_dicom(tmp_path / f"a_sample/{n}.dcm")
    for n in range(60):
        save(image(size=100), tmp_path / f"png/{n}.png")
    assert detect(str(tmp_path)) == "folder"
    assert any(".dcm" in note for note in build(tmp_path).notes)


def test_masks_and_previews_of_dicom_images_do_not_make_a_folder_of_pictures(tmp_path):
    for n in range(6):
        write_dicom(tmp_path / f"dicom/{n}.dcm", size=100)
        save(mask(size=100), tmp_path / f"masks/{n}.png")
        save(image(size=100), tmp_path / f"previews/{n}.png")
    assert detect(str(tmp_path)) == "dicom"


def test_a_picture_of_a_screen_is_left_out_where_its_study_has_slices_only(tmp_path):
    for n in range(3):
        write_dicom(tmp_path / f"{n}", InstanceNumber=n)
    write_dicom(tmp_path / "screen", SecondaryCaptureImageStorage, "OT", SeriesInstanceUID="1.2.4")
    write_dicom(tmp_path / "film", SecondaryCaptureImageStorage, "OT", StudyInstanceUID="1.3", SeriesInstanceUID="1.3.1")
    write_dicom(tmp_path / "chest", DigitalXRayImageStorageForPresentation, "DX", StudyInstanceUID="1.3", SeriesInstanceUID="1.3.2")
    source = dicom.build(dicom.Config(), str(tmp_path))
    assert {record.locator for record in source.records} == {"0", "1", "2", "film", "chest"}
    assert left_out(source) == {"not_primary": 1}
    assert len(dicom.build(dicom.Config(derived="keep"), str(tmp_path)).records) == 6


def test_a_manifest_may_list_dicom_files_of_any_name_beside_pictures(tmp_path):
    write_dicom(tmp_path / "1.2.840.113619.2.55")
    write_dicom(tmp_path / "IM0001.IMA")
    save(image(), tmp_path / "mdb001.pgm")
    volume(tmp_path / "brain.nii", brain())
    (tmp_path / "list.csv").write_text("path\n1.2.840.113619.2.55\nIM0001.IMA\nmdb001.pgm\nbrain.nii\n")
    source = manifest.build(manifest.Config(), str(tmp_path / "list.csv"))
    assert Counter(record.reader for record in source.records) == {"dicom": 2, "raster": 1, "nifti": 8}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jfif", "JPEG"), ("a", "PNG"), ("a.pgm", "PPM"), ("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.jp2", "JPEG2000"), ("1.2.9", "BMP")],
)
def test_pictures_of_any_suffix_are_listed(tmp_path, name, kind):
    save(image(), tmp_path / name, format=kind)
    (tmp_path / "notes.txt").write_text("P2 was examined again")
    assert [record.locator for record in build(tmp_path).records] == [name]
