"""Whole volumes of NIfTI files: marks where they belong, one scale, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image
from whole_volumes import CODES, FRONT, HEAD, LEFT, SHAPE, SPACING, marked, write_nifti

from medssl.config import Limits
from medssl.data.volume_readers import nifti
from medssl.errors import ReadError
from medssl.types import Decoded


def read(path: Path, index: int = 0, **options: object) -> Decoded:
    return nifti.build(nifti.Config.model_validate(options)).read(path, index)


def reason(path: Path, index: int = 0, **options: object) -> str:
    with pytest.raises(ReadError) as caught:
        read(path, index, **options)
    return caught.value.reason


def expected(volume: np.ndarray) -> np.ndarray:
    """The volume scaled by its percentiles."""
    low, high = np.percentile(volume, (0.5, 99.5))
    return np.clip((volume.astype(np.float64) - low) / (high - low), 0, 1)


def test_marks_stand_at_the_left_in_front_and_at_the_head_in_all_48_orientations(tmp_path: Path) -> None:
    for code in CODES:
        decoded = read(write_nifti(tmp_path / f"{code}.nii", marked(), code))
        np.testing.assert_allclose(decoded.pixels[0], expected(marked()), atol=1e-6, err_msg=code)
        assert decoded.spacing_mm == pytest.approx(SPACING)
        assert decoded.volume is not None and decoded.volume.orientation == code
        assert all(decoded.pixels[0][place] == 1 for place in (LEFT, FRONT, HEAD))


@pytest.mark.slow
def test_marks_lie_where_nibabel_and_monai_say(tmp_path: Path) -> None:
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import Orientation

    for code in ("RAS", "PIL", "SLA"):
        path = write_nifti(tmp_path / f"{code}.nii", marked(), code)
        image = Nifti1Image.from_filename(path)
        turned = Orientation(axcodes="LPS", labels=None)(MetaTensor(np.asarray(image.dataobj)[None], affine=torch.as_tensor(image.affine)))
        np.testing.assert_array_equal(np.asarray(turned[0]).transpose(2, 1, 0), marked())
        np.testing.assert_allclose(read(path).pixels[0], expected(marked()), atol=1e-6)


def test_each_time_of_a_4d_file_is_a_volume_with_its_own_scale(tmp_path: Path) -> None:
    first = marked()
    series = np.stack([first.transpose(2, 1, 0), 3 * first.transpose(2, 1, 0)[::-1]], axis=-1)
    Nifti1Image(series, np.diag([-1, -1, 1, 1.0])).to_filename(tmp_path / "time.nii.gz")
    for index, volume in enumerate((first, 3 * first[:, :, ::-1])):
        np.testing.assert_allclose(read(tmp_path / "time.nii.gz", index).pixels[0], expected(volume), atol=1e-6)
    assert reason(tmp_path / "time.nii.gz", 2) == "no_such_volume"


def test_ct_has_the_window_from_air_to_bone_and_its_body_is_the_foreground(tmp_path: Path) -> None:
    volume = np.full((12, 20, 30), -1000, np.int16)
    volume[2:9, 4:15, 5:25] = 40
    decoded = read(write_nifti(tmp_path / "ct.nii", volume))
    assert decoded.modality == "CT" and decoded.volume is not None
    assert decoded.volume.foreground == ((2, 9), (4, 15), (5, 25))
    assert (decoded.pixels[0, 0, 0, 0], decoded.pixels[0, 5, 5, 10]) == pytest.approx((0, 0.52))
    lung_and_brain = read(tmp_path / "ct.nii", window="lung,brain").pixels
    assert lung_and_brain.shape == (2, 12, 20, 30) and lung_and_brain[1, 5, 5, 10] == pytest.approx((40 - 0.5) / 79, abs=0.02)


def test_percentiles_are_those_of_the_brain_and_not_of_the_zeros_around_a_stripped_one(tmp_path: Path) -> None:
    volume = np.zeros((20, 20, 20), np.float32)
    brain = np.random.default_rng(1).uniform(200, 400, (10, 8, 6)).astype(np.float32)
    volume[5:15, 6:14, 7:13] = brain
    decoded = read(write_nifti(tmp_path / "brain.nii", volume))
    low, high = np.percentile(brain, (0.5, 99.5))
    np.testing.assert_allclose(decoded.pixels[0, 5:15, 6:14, 7:13], np.clip((brain - low) / (high - low), 0, 1), atol=1e-5)
    assert decoded.volume is not None and decoded.volume.foreground == ((5, 15), (6, 14), (7, 13))


def test_a_mask_keeps_both_of_its_values(tmp_path: Path) -> None:
    volume = np.zeros((10, 10, 10), np.uint8)
    volume[3:6, 2:9, 4:5] = 1
    np.testing.assert_array_equal(read(write_nifti(tmp_path / "mask.nii", volume)).pixels[0], volume)


def test_nan_is_refused_or_becomes_zero(tmp_path: Path) -> None:
    volume = marked(np.float32)
    volume[0, 0, 0] = np.nan
    path = write_nifti(tmp_path / "nan.nii", volume)
    assert reason(path) == "non_finite"
    assert read(path, non_finite="zero").pixels[0, 0, 0, 0] == 0


@pytest.mark.parametrize("shape", [(10, 12, 1), (3, 3, 3), (10, 7, 12)])
def test_thin_volumes_are_left_out(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    path = write_nifti(tmp_path / "thin.nii", np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    assert reason(path) == "few_slices"


def test_constant_volumes_and_bombs_are_refused_with_a_reason(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", marked())
    assert reason(write_nifti(tmp_path / "flat.nii", np.full(SHAPE, 7, np.int16))) == "constant"
    assert reason(path, limits=Limits(memory_bytes=10 * 12 * 14 * 4)) == "too_big"
    assert reason(path, limits=Limits(max_pixels=100)) == "too_many_pixels"
    assert reason(path, limits=Limits(max_frames=5)) == "too_many_frames"
    assert reason(path, window="lung") == "not_hounsfield"


def test_a_file_without_an_orientation_is_read_and_says_that_it_has_none(tmp_path: Path) -> None:
    image = Nifti1Image(marked().transpose(2, 1, 0), None)
    image.to_filename(tmp_path / "plain.nii")
    decoded = read(tmp_path / "plain.nii")
    assert decoded.volume is not None and decoded.volume.orientation == ""


def test_colours_become_three_channels(tmp_path: Path) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (9, 10, 11, 3), np.uint8)
    stored = np.ascontiguousarray(colours.transpose(2, 1, 0, 3)).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    Nifti1Image(stored, np.diag([-1, -1, 1, 1.0])).to_filename(tmp_path / "rgb.nii")
    np.testing.assert_allclose(read(tmp_path / "rgb.nii").pixels, colours.transpose(3, 0, 1, 2) / 255, atol=1e-6)
