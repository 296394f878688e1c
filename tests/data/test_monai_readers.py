from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medssl.data.readers import dicom, nifti, raster
from medssl.errors import ReadError

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI warns of its own readers when LoadImage is made


def load(reader: object, path: Path) -> np.ndarray:
    from monai.transforms.io.array import LoadImage

    return np.asarray(LoadImage(reader=reader, image_only=True, ensure_channel_first=True)(path))


def test_load_image_gives_the_pixels_of_the_dicom_reader(write_dicom: Callable[..., Path], scene: np.ndarray) -> None:
    from medssl.data.monai_readers import DicomReader

    path = write_dicom(np.stack([np.rint(scene * 255), np.rint(scene[::-1] * 200)]).astype(np.uint8), 8)
    for index in (0, 1):
        loaded = load(DicomReader(index=index), path)
        assert loaded.shape == (1, 24, 40)
        np.testing.assert_array_equal(loaded, dicom.build(dicom.Config()).read(path, index).pixels)


def test_load_image_gives_the_pixels_of_the_raster_reader(shared_data: Path) -> None:
    from medssl.data.monai_readers import RasterReader

    path = min((shared_data / "chestxray/nih_originals_1024").rglob("*.png"))
    np.testing.assert_array_equal(load(RasterReader(), path), raster.build(raster.Config()).read(path).pixels)


def test_load_image_gives_the_pixels_of_the_nifti_reader(shared_data: Path) -> None:
    from medssl.data.monai_readers import DicomReader, NiftiReader

    path = shared_data / "nifti/nibabel/example4d.nii.gz"
    for index, window in ((12, "header"), (40, "40/4000")):
        expected = nifti.build(nifti.Config(window=window)).read(path, index).pixels
        np.testing.assert_array_equal(load(NiftiReader(window=window, index=index), path), expected)
    assert NiftiReader().verify_suffix(path)
    assert not DicomReader().verify_suffix(path)


def test_load_image_does_not_fall_back_to_readers_with_other_pixels(write_dicom: Callable[..., Path], scene: np.ndarray) -> None:
    from medssl.data.monai_readers import DicomReader

    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, RescaleSlope=0)
    with pytest.raises(ReadError, match="constant"):
        load(DicomReader(), path)


def test_the_readers_recognise_files_by_content(write_dicom: Callable[..., Path], scene: np.ndarray) -> None:
    from medssl.data.monai_readers import DicomReader, RasterReader

    path = write_dicom(np.rint(scene * 255).astype(np.uint8), 8, name="a.png")
    assert DicomReader().verify_suffix([path])
    assert not RasterReader().verify_suffix(path)
