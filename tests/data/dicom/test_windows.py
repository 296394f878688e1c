"""Which range of numbers becomes [0, 1]: windows in HU, and what suits a modality where a file names no window. And the spacing."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import CTImageStorage, ParametricMapStorage

from medssl.data.readers import dicom
from medssl.errors import ReadError

Write = Callable[..., Path]
CT = {"Modality": "CT", "SOPClassUID": CTImageStorage, "RescaleSlope": 1, "RescaleIntercept": -1024}


def read(path: Path, window: str = "header", index: int = 0, **options: Any) -> np.ndarray:
    return dicom.build(dicom.Config(window=window, **options)).read(path, index).pixels


def spacing(path: Path, index: int = 0) -> tuple[float, ...] | None:
    return dicom.build(dicom.Config()).read(path, index).spacing_mm


def item(**elements: Any) -> list[Dataset]:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return [dataset]


def test_each_window_in_hu_is_a_channel_by_the_formula_of_the_standard(write_dicom: Write) -> None:
    """PS3.3 C.11.2.1.2.1, lung -600/1500: ((HU + 600.5) / 1499 + 0.5); brain 40/80: ((HU - 39.5) / 79 + 0.5)."""
    hu = np.array([[-1024, -1000, -600, 0, 40, 79, 80, 1000]])
    path = write_dicom((hu + 1024).astype(np.uint16), 12, **CT, WindowCenter=7, WindowWidth=8)
    pixels = read(path, "lung,40/80")
    assert pixels.shape == (2, 1, 8)
    np.testing.assert_allclose(pixels[0, 0], [0.217478, 0.233489, 0.500334, 0.9006, 0.927285, 0.953302, 0.953969, 1], atol=1e-5)
    np.testing.assert_allclose(pixels[1, 0], [0, 0, 0, 0, 0.506329, 1, 1, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["lung", "soft_tissue", "bone", "brain"])
def test_a_named_window_of_a_real_slice_equals_that_of_pydicom(shared_data: Path, name: str) -> None:
    centre, width = {"lung": (-600, 1500), "soft_tissue": (40, 400), "bone": (400, 1800), "brain": (40, 80)}[name]
    header = pydicom.dcmread(shared_data / "dicom/ct-3slice/02.dcm")
    header.WindowCenter, header.WindowWidth, header.BitsStored = centre, width, 16
    hu = apply_modality_lut(header.pixel_array, header)
    low, high = -(2**15) - 1024, 2**15 - 1 - 1024  # pydicom's result fills the stored range
    expected = (apply_windowing(hu, header) - low) / (high - low)
    expected[header.pixel_array == -2000] = 0  # padding
    np.testing.assert_allclose(read(shared_data / "dicom/ct-3slice/02.dcm", name)[0], expected, atol=1e-4)


@pytest.mark.parametrize("changed", [{"Modality": "MR"}, {"RescaleSlope": None}, {"RescaleType": "Z_EFF"}, {"Modality": "DOE_JANE"}])
def test_windows_in_hu_are_refused_where_numbers_are_no_hu(write_dicom: Write, scene: np.ndarray, changed: dict[str, Any]) -> None:
    path = write_dicom(np.rint(scene * 4095).astype(np.uint16), 12, **{**CT, **changed})
    with pytest.raises(ReadError, match=r"^not_hounsfield: .*\(modality (CT|MR|unknown)\)$"):
        read(path, "lung")


def test_colour_is_refused_for_windows_in_hu(shared_data: Path) -> None:
    for name in ("SC_rgb.dcm", "OBXXXX1A_rle.dcm"):
        with pytest.raises(ReadError, match=r"^not_hounsfield: "):
            read(shared_data / "dicom/pydicom-data" / name, "bone")


def test_ct_without_a_window_shows_air_to_dense_bone(write_dicom: Write) -> None:
    hu = np.array([[-1024, -1000, -500, 0, 500, 1000, 3000]])
    path = write_dicom((hu + 1024).astype(np.uint16), 12, **CT)
    np.testing.assert_allclose(read(path)[0, 0], [0, 0, 0.25, 0.5, 0.75, 1, 1], atol=1e-6)


@pytest.mark.parametrize("modality", ["MR", "PT", "NM", None])
def test_a_modality_without_a_fixed_scale_is_stretched_by_percentiles_where_it_has_no_window(
    write_dicom: Write, scene: np.ndarray, modality: str | None
) -> None:
    """A 16-bit MR slice that uses 0 to 1000 would else be nearly black."""
    values = np.rint(scene * 1000).astype(np.uint16)
    low, high = np.percentile(values, (0.5, 99.5))
    path = write_dicom(values, 16, Modality=modality)
    np.testing.assert_allclose(read(path)[0], np.clip((values - low) / (high - low), 0, 1), atol=1e-6)
    np.testing.assert_allclose(read(path, "none")[0], values / 65535, atol=1e-6)


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "XA", "RF", "US", "OT"])
def test_a_radiograph_without_a_window_keeps_its_stored_range(write_dicom: Write, scene: np.ndarray, modality: str) -> None:
    values = np.rint(scene * 1000).astype(np.uint16)
    np.testing.assert_allclose(read(write_dicom(values, 12, Modality=modality))[0], values / 4095, atol=1e-6)


def test_eight_bits_keep_their_range_in_every_modality(write_dicom: Write, scene: np.ndarray) -> None:
    values = np.rint(scene * 100).astype(np.uint8)
    for elements in ({"Modality": "MR"}, CT):
        np.testing.assert_allclose(read(write_dicom(values, 8, **elements))[0], values / 255, atol=1e-6)


def test_a_frame_that_is_empty_but_for_a_spot_keeps_the_spot(write_dicom: Write) -> None:
    values = np.zeros((40, 40), np.uint16)
    values[3, 4] = 900
    pixels = read(write_dicom(values, 16, Modality="NM"))[0]
    assert pixels[3, 4] == 1
    assert pixels.sum() == 1


def test_the_real_mr_series_uses_the_whole_range(shared_data: Path) -> None:
    pixels = read(shared_data / "dicom/mr-series/brain_012.dcm")[0]
    assert pixels.max() == 1
    assert np.median(pixels[100:156, 100:156]) > 0.2  # the middle of the brain


SCALES = {
    "8 bits": (np.uint8, 8),
    "12 bits": (np.uint16, 12),
    "16 bits": (np.uint16, 16),
    "signed 12": (np.int16, 12),
    "signed": (np.int16, 16),
}
RESCALES = {"no rescale": None, "a rescale": (2.0, -1000.0), "a falling one": (-0.5, 300.0)}


@pytest.mark.fault("D6", "D7", "D8", "D10")
@pytest.mark.parametrize(
    ("scale", "rescale", "inverse", "windowed"), list(product(SCALES, RESCALES, (False, True), (False, True))), ids=lambda value: str(value)
)
def test_twins_of_one_scene_agree_within_a_grey_level(
    write_dicom: Write, scene: np.ndarray, scale: str, rescale: str, inverse: bool, windowed: bool
) -> None:
    """Every combination of bits, sign, rescale, MONOCHROME1 and a window over the whole range shows the same picture."""
    kind, bits = SCALES[scale]
    slope, intercept = RESCALES[rescale] or (1.0, 0.0)
    shown = 1 - scene if inverse else scene
    shown = 1 - shown if slope < 0 else shown
    low = -(2 ** (bits - 1)) if kind == np.int16 else 0
    stored = (np.rint(shown * (2**bits - 1)) + low).astype(kind)
    elements: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1"} if inverse else {}
    if RESCALES[rescale]:
        elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if windowed:
        ends = sorted((low * slope + intercept, (low + 2**bits - 1) * slope + intercept))
        elements |= {"WindowCenter": (ends[0] + ends[1] + 1) / 2, "WindowWidth": ends[1] - ends[0] + 1}
    np.testing.assert_allclose(read(write_dicom(stored, bits, **elements))[0], scene, atol=1 / 255)


def parametric(write_dicom: Write, values: np.ndarray) -> Path:
    """Pixels as 32-bit floating-point numbers."""
    path = write_dicom(np.zeros(values.shape, np.uint16), 16, SOPClassUID=ParametricMapStorage, Modality="OT")
    header = pydicom.dcmread(path)
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(header, keyword)
    header.BitsAllocated, header.FloatPixelData = 32, values.astype("<f4").tobytes()
    header.save_as(path)
    return path


def test_a_float_frame_with_nan_is_refused_or_black_there(write_dicom: Write, scene: np.ndarray) -> None:
    values = scene * 7 - 3
    values[2, :5], values[3, 0] = np.nan, np.inf
    path = parametric(write_dicom, values)
    with pytest.raises(ReadError, match=r"^non_finite: 6 pixels"):
        read(path)
    rest = np.isfinite(values)
    low, high = np.percentile(values[rest].astype(np.float32), (0.5, 99.5))
    pixels = read(path, non_finite="zero")[0]
    assert (pixels[~rest] == 0).all()
    np.testing.assert_allclose(pixels[rest], np.clip((values[rest] - low) / (high - low), 0, 1), atol=1e-5)


def test_a_float_frame_of_nan_only_is_constant(write_dicom: Write) -> None:
    with pytest.raises(ReadError, match=r"^constant: "):
        read(parametric(write_dicom, np.full((4, 4), np.nan)), non_finite="zero")


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"PixelSpacing": [0.5, 0.25]}, (0.5, 0.25)),
        ({"ImagerPixelSpacing": [0.143, 0.142]}, (0.143, 0.142)),
        ({"PixelSpacing": [0.5, 0.25], "ImagerPixelSpacing": [0.6, 0.3]}, (0.5, 0.25)),
        ({"PixelSpacing": [0, 0.25], "ImagerPixelSpacing": [0.6, 0.3]}, (0.6, 0.3)),
        ({"PixelSpacing": None}, None),
        ({"PixelSpacing": [0.5]}, None),
        ({"PixelSpacing": [-0.5, 0.5]}, None),
        ({}, None),
    ],
)
def test_the_spacing_is_that_of_rows_then_columns(write_dicom: Write, scene: np.ndarray, elements: Any, expected: Any) -> None:
    assert spacing(write_dicom(np.rint(scene * 255).astype(np.uint8), 8, **elements)) == expected


def test_frames_take_their_spacing_from_their_functional_groups(write_dicom: Write, scene: np.ndarray, shared_data: Path) -> None:
    own = [*item(PixelMeasuresSequence=item(PixelSpacing=[0.3, 0.4])), *item(SliceLocation=1)]
    shared = item(PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.6]))
    frames = np.stack([np.rint(scene * 255).astype(np.uint8)] * 2)
    path = write_dicom(frames, 8, SharedFunctionalGroupsSequence=shared, PerFrameFunctionalGroupsSequence=own)
    assert [spacing(path, 0), spacing(path, 1)] == [(0.3, 0.4), (0.5, 0.6)]
    assert spacing(shared_data / "dicom/tiny-ct-23x38x3/multiframe/mf.dcm", 1) == (0.7, 0.7)
    assert spacing(shared_data / "dicom/ct-3slice/01.dcm") == (0.810547, 0.810547)


@pytest.mark.fault("D5")
def test_slices_and_the_multi_frame_file_of_one_volume_hold_the_same_numbers_and_end_alike(shared_data: Path) -> None:
    """Two of its three slices hold one number only: they are empty in both forms."""
    reader, folder = dicom.build(dicom.Config()), shared_data / "dicom/tiny-ct-23x38x3"
    for index in range(3):
        single, frame = (folder / f"image/IMG000{index + 1}.dcm", 0), (folder / "multiframe/mf.dcm", index)
        np.testing.assert_array_equal(reader.stored(*single), reader.stored(*frame))
        if index == 1:
            np.testing.assert_array_equal(reader.read(*single).pixels, reader.read(*frame).pixels)
        else:
            for image in (single, frame):
                with pytest.raises(ReadError, match=r"^empty_slice: "):
                    reader.read(*image)
