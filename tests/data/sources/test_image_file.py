"""One image file as a data set: found by its content, whatever its name, with every frame, page and slice that it holds."""

from pathlib import Path

import numpy as np
import pytest
from dicoms import shipped
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from medssl.data.detect import detect
from medssl.data.sources import image_file
from medssl.errors import UserError


def images(file: Path) -> list[tuple[str, int]]:
    """(reader, index) of the images of a file that is detected as one image file."""
    assert detect(str(file)) == "image_file"
    source = image_file.build(image_file.Config(), str(file))
    assert {record.locator for record in source.records} == {file.name}
    return [(record.reader, record.index) for record in source.records]


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "tiff"])
def test_a_picture_is_one_image_whatever_its_name(tmp_path, kind):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "scan", kind)
    assert images(tmp_path / "scan") == [("raster", 0)]


def test_every_page_of_a_tiff_file_is_an_image(tmp_path):
    pages = [Image.fromarray(np.full((4, 4), n, np.uint8)) for n in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert images(tmp_path / "a.tif") == [("raster", 0), ("raster", 1), ("raster", 2)]


def test_a_dicom_file_gives_one_image_for_each_of_its_frames(tmp_path):
    (tmp_path / "IM.0001").write_bytes(shipped("CT_small.dcm").read_bytes())
    assert images(tmp_path / "IM.0001") == [("dicom", 0)]
    (tmp_path / "film.png").write_bytes(shipped("examples_rgb_color.dcm").read_bytes())
    assert images(tmp_path / "film.png") == [("dicom", 0)]
    (tmp_path / "frames").write_bytes(shipped("rtdose_1frame.dcm").read_bytes()[:200])
    with pytest.raises(UserError, match="has no image that can be used"):
        image_file.build(image_file.Config(), str(tmp_path / "frames"))


def test_a_nifti_volume_without_its_suffix_gives_all_its_slices(tmp_path):
    Nifti1Image(np.random.default_rng(0).integers(0, 99, (6, 5, 4), np.int16), np.eye(4)).to_filename(tmp_path / "a.nii")
    assert detect(str(tmp_path / "a.nii")) == "nifti"
    (tmp_path / "a.nii").rename(tmp_path / "volume")
    assert images(tmp_path / "volume") == [("nifti", index) for index in range(4)]


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_a_file_that_begins_like_no_image_is_refused_with_what_can_be_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png is neither an image nor a list of images\. Name a folder of images, one image file"):
        detect(str(tmp_path / "a.png"))
