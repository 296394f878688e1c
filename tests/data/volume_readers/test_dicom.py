"""Whole volumes of DICOM series: order, orientation, gaps, tilt, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whole_volumes import CODES, CT, SHAPE, SPACING, marked, write_dicom

from medssl.config import Limits
from medssl.data.volume_readers import dicom
from medssl.errors import ReadError
from medssl.types import Decoded


def read(files: list[Path], **options: object) -> Decoded:
    return dicom.build(dicom.Config.model_validate(options)).read_parts([(file, 0) for file in files])


def reason(files: list[Path], **options: object) -> str:
    with pytest.raises(ReadError) as caught:
        read(files, **options)
    return caught.value.reason


def expected(volume: np.ndarray) -> np.ndarray:
    low, high = np.percentile(volume, (0.5, 99.5))
    return np.clip((volume.astype(np.float64) - low) / (high - low), 0, 1)


@pytest.mark.parametrize("code", ["LPS", "RPS", "LPI", "LIP", "LIA", "PIR", "PIL", "AIL", "SLP"])
def test_marks_stand_where_they_belong_in_axial_coronal_and_sagittal_scans(tmp_path: Path, code: str) -> None:
    decoded = read(files := write_dicom(tmp_path, marked(), code))
    np.testing.assert_allclose(decoded.pixels[0], expected(marked()), atol=1e-5)
    assert decoded.spacing_mm == pytest.approx(SPACING)
    grid = dicom.build(dicom.Config()).grid_of_parts([(file, 0) for file in files])
    assert grid == (SHAPE, decoded.spacing_mm) == (decoded.pixels.shape[1:], decoded.spacing_mm)
    assert decoded.volume is not None
    assert decoded.volume.orientation[:2] == code[:2]  # the third axis has the direction in which the slices are sorted


@pytest.mark.slow
def test_marks_stand_where_they_belong_in_all_48_orientations(tmp_path: Path) -> None:
    for code in CODES:
        np.testing.assert_allclose(read(write_dicom(tmp_path / code, marked(), code)).pixels[0], expected(marked()), atol=1e-5)


def test_names_and_instance_numbers_decide_nothing(tmp_path: Path) -> None:
    for seed in (1, 2):
        files = write_dicom(tmp_path / str(seed), marked(), shuffle=seed)
        np.testing.assert_allclose(read(files).pixels[0], expected(marked()), atol=1e-5)


def heights(*missing: int):
    """The position of slice k, where the slices `missing` were not stored."""
    kept = [height for height in range(40) if height not in missing]
    return lambda k: [0, 0, 3.0 * kept[k]]


@pytest.mark.parametrize("missing", [(4,), (4, 5)])
def test_up_to_two_missing_slices_are_interpolated_and_counted(tmp_path: Path, missing: tuple[int, ...]) -> None:
    slope = np.tile(np.arange(12, dtype=np.int16)[:, None, None] * 100, (1, 12, 14))
    kept = np.delete(slope, missing, axis=0)
    decoded = read(write_dicom(tmp_path, kept, ImagePositionPatient=heights(*missing)), window="none")
    assert decoded.volume is not None and decoded.volume.filled == len(missing)
    assert decoded.spacing_mm == pytest.approx(SPACING)
    np.testing.assert_allclose(decoded.pixels[0], (slope + 32768.0) / 65535, atol=1e-6)


def test_more_missing_slices_are_a_gap(tmp_path: Path) -> None:
    assert reason(write_dicom(tmp_path, marked(), ImagePositionPatient=heights(4, 5, 6))) == "gap"


def test_a_head_with_thinner_slices_below_keeps_its_proportions(tmp_path: Path) -> None:
    """Four slices of 2.5 mm, then 5 mm: the thick part is filled up."""
    places = [0, 2.5, 5, 7.5, 10, 15, 20, 25, 30, 35]
    values = np.rint(np.tile(np.array(places)[:, None, None] * 100, (1, 12, 14))).astype(np.int16)
    decoded = read(write_dicom(tmp_path, values, ImagePositionPatient=lambda k: [0, 0, places[k]]), window="none")
    assert decoded.spacing_mm == pytest.approx((2.5, 2, 1.5)) and decoded.volume is not None and decoded.volume.filled == 5
    np.testing.assert_allclose(decoded.pixels[0, :, 0, 0] * 65535 - 32768, np.arange(15) * 250, atol=0.1)


def test_slices_of_varying_distance_are_refused_and_small_errors_of_their_places_are_not(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "a", marked(), ImagePositionPatient=lambda k: [0, 0, 3 * min(k, 4) + 4.2 * max(k - 4, 0)])
    assert reason(files) == "uneven"
    nearly_twice = write_dicom(tmp_path / "c", marked(), ImagePositionPatient=lambda k: [0, 0, 3.0 * k if k < 1 else 3.0 * k - 2.98])
    assert reason(nearly_twice) == "uneven"
    decoded = read(write_dicom(tmp_path / "b", marked(), ImagePositionPatient=lambda k: [0, 0, 3 * k + k % 2 / 2]))
    assert decoded.spacing_mm == pytest.approx((27.5 / 9, 2, 1.5))


def test_a_tilted_gantry_is_sheared_back(tmp_path: Path) -> None:
    """A vertical rod, scanned with planes that are tilted: the table moves along z, the planes' normal is turned by 20 degrees. In the
    slices the rod wanders; in the volume it must be straight along the normal."""
    angle = np.radians(20)
    down, step, pixel = np.array([0, np.cos(angle), np.sin(angle)]), 4.0, 2.0
    normal = np.array([0, -np.sin(angle), np.cos(angle)])
    table = np.array([0, 0, step])  # of each slice
    volume = np.zeros((12, 40, 20), np.int16)
    centre = 12 * pixel * down  # a point of the rod in slice 0; the rod follows the normal
    for k in range(12):
        rod = centre + normal * (step * np.cos(angle)) * k - k * table
        row = float(rod @ down) / pixel
        volume[k, :, 10] = np.clip(1 - abs(np.arange(40) - row) / 2, 0, 1) * 1000
    files = write_dicom(
        tmp_path,
        volume,
        spacing=(step, pixel, pixel),
        ImagePositionPatient=lambda k: (k * table).tolist(),
        ImageOrientationPatient=[1, 0, 0, *down.tolist()],
    )
    assert np.ptp(volume[:, :, 10].argmax(axis=1)) > 4
    decoded = read(files)
    assert decoded.volume is not None and decoded.volume.tilt_degrees == pytest.approx(20, abs=0.1)
    rows = (decoded.pixels[0, :, :, 10] * np.arange(decoded.pixels.shape[2])).sum(1) / decoded.pixels[0, :, :, 10].sum(1)
    assert np.ptp(rows) < 0.5
    assert decoded.spacing_mm == pytest.approx((step * np.cos(angle), pixel, pixel))


def test_absurd_shifts_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    files = write_dicom(tmp_path, marked(), ImagePositionPatient=lambda k: [1e6 * k, 0, 3.0 * k])
    assert reason(files) == "tilt"


def test_ct_is_in_hu_with_the_window_of_the_header_or_from_air_to_bone(tmp_path: Path) -> None:
    volume = np.full(SHAPE, 24, np.int16)  # -1000 HU
    volume[2:9, 3:9, 4:12] = 1024 + 40
    hu = {**CT, "RescaleIntercept": -1024}
    plain, stated = write_dicom(tmp_path / "a", volume, **hu), write_dicom(tmp_path / "b", volume, **hu, WindowCenter=40, WindowWidth=400)
    assert read(plain).pixels[0, 5, 5, 5] == pytest.approx(0.52)
    assert read(stated).pixels[0, 5, 5, 5] == pytest.approx(0.5, abs=0.01)
    facts = read(plain).volume
    assert facts is not None and facts.foreground == ((2, 9), (3, 9), (4, 12))


def test_slices_with_slopes_of_their_own_get_one_scale(tmp_path: Path) -> None:
    """PET stores each slice with its own slope."""
    slopes = np.linspace(1, 2, SHAPE[0])
    stored = np.rint(marked() / slopes[:, None, None]).astype(np.int16)
    files = write_dicom(tmp_path, stored, RescaleIntercept=0, RescaleSlope=lambda k: float(slopes[k]))
    np.testing.assert_allclose(read(files).pixels[0], expected(marked()), atol=0.02)


def test_padding_becomes_the_least_value(tmp_path: Path) -> None:
    volume = marked()
    volume[:, 0, 0] = -2000
    pixels = read(write_dicom(tmp_path, volume, PixelPaddingValue=-2000)).pixels[0]
    assert (pixels[:, 0, 0] == 0).all()
    np.testing.assert_allclose(pixels[:, 1:], expected(marked())[:, 1:], atol=0.02)


def test_slices_without_places_stay_in_their_order_and_have_no_orientation(tmp_path: Path) -> None:
    files = write_dicom(tmp_path, marked(), ImagePositionPatient=None, ImageOrientationPatient=None, SliceThickness=3.0)
    order = np.random.default_rng(0).permutation(SHAPE[0])
    decoded = read([files[name] for name in order.tolist()])
    np.testing.assert_allclose(decoded.pixels[0], expected(marked()), atol=1e-5)
    assert decoded.volume is not None and decoded.volume.orientation == "" and decoded.spacing_mm == pytest.approx(SPACING)
    film = write_dicom(tmp_path / "film", marked(), ImagePositionPatient=None, Modality="US")
    assert reason(film) == "no_volume"


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"ImagePositionPatient": lambda k: [0, 0, 3.0 * (k // 2)]}, "duplicate_positions"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"ImageOrientationPatient": lambda k: [1, 0, 0, 0, 1, 0] if k else [0, 1, 0, 0, 0, -1]}, "mixed_directions"),
        ({"Rows": lambda k: 12 if k else 6}, "mixed_sizes"),
        ({"PixelSpacing": lambda k: [2, 1.5] if k else [2, 1]}, "mixed_sizes"),
        ({"PixelData": np.zeros(12 * 14, "<i2").tobytes()}, "constant"),
    ],
)
def test_what_is_no_volume_is_left_out_with_a_reason(tmp_path: Path, elements: dict[str, Any], expected: str) -> None:
    assert reason(write_dicom(tmp_path, marked(), **elements)) == expected


def test_few_slices_and_bombs_are_refused_by_the_headers(tmp_path: Path) -> None:
    files = write_dicom(tmp_path, marked())
    assert reason(files[:3]) in ("few_slices", "gap")
    assert reason(files, min_slices=11) == "few_slices"
    assert reason(files, limits=Limits(memory_bytes=5000)) == "too_big"


def test_frames_of_one_file_are_a_volume(shared_data: Path) -> None:
    """The same tiny volume as three slices and as one file of three frames."""
    folder = shared_data / "dicom/tiny-ct-23x38x3"
    single, multi = sorted((folder / "image").iterdir()), folder / "multiframe/mf.dcm"
    reader = dicom.build(dicom.Config(min_slices=2))
    np.testing.assert_array_equal(reader.read(multi).pixels, reader.read_parts([(file, 0) for file in single]).pixels)
