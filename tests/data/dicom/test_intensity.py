from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import shipped
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing

from medssl.data.readers import dicom
from medssl.errors import ReadError

Write = Callable[..., Path]
HALF_GREY_LEVEL = 0.5 / 255


def read(path: Path, window: str = "header", index: int = 0) -> np.ndarray:
    return dicom.build(dicom.Config.model_validate({"window": window})).read(path, index).pixels[0]


def stored(scene: np.ndarray, bits: int = 12) -> np.ndarray:
    return np.rint(scene * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def table(entries: np.ndarray, first: int, bits: int) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return [item]


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_twins_of_other_bits_are_equal(write_dicom: Write, scene: np.ndarray, bits: int) -> None:
    np.testing.assert_allclose(read(write_dicom(stored(scene, bits), bits)), scene, atol=HALF_GREY_LEVEL + 1e-6)


TWINS = {
    "signed": lambda x: ((x.astype(np.int32) - 2048).astype(np.int16), {}),
    "rescaled": lambda x: (x, {"RescaleSlope": 2, "RescaleIntercept": -1000}),
    "only a slope": lambda x: (x, {"RescaleSlope": 0.5}),
    "only an intercept": lambda x: (x, {"RescaleIntercept": 7}),
    "an empty slope": lambda x: (x, {"RescaleSlope": None, "RescaleIntercept": None}),
    "a falling slope": lambda x: (4095 - x, {"RescaleSlope": -1, "RescaleIntercept": 4095}),
    "MONOCHROME1": lambda x: (4095 - x, {"PhotometricInterpretation": "MONOCHROME1"}),
    "MONOCHROME1 said twice": lambda x: (4095 - x, {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}),
    "an inverse presentation": lambda x: (4095 - x, {"PresentationLUTShape": "INVERSE"}),
    "an identity presentation": lambda x: (x, {"PresentationLUTShape": "IDENTITY"}),
    "the whole range as window": lambda x: (x, {"WindowCenter": 2048, "WindowWidth": 4096}),
    "two windows": lambda x: (x, {"WindowCenter": [2048, 100], "WindowWidth": [4096, 10]}),
    "an exact window": lambda x: (x, {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}),
    "a window in rescaled units": lambda x: (
        x,
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 3095.5, "WindowWidth": 8191},
    ),
    "a signed window": lambda x: ((x.astype(np.int32) - 2048).astype(np.int16), {"WindowCenter": 0, "WindowWidth": 4096}),
    "a window without width": lambda x: (x, {"WindowCenter": 40, "WindowWidth": 0}),
    "a window of width one": lambda x: (x, {"WindowCenter": 40, "WindowWidth": 1}),
    "an empty window": lambda x: (x, {"WindowCenter": None, "WindowWidth": None}),
    "a window beside the range": lambda x: (x, {"WindowCenter": 40000, "WindowWidth": 100}),
    "a modality table that inverts": lambda x: (4095 - x, {"ModalityLUTSequence": table(np.arange(4095, -1, -1), 0, 12)}),
    "a VOI table with 8-bit entries": lambda x: (x, {"VOILUTSequence": table(np.arange(4096) // 16, 0, 8)}),
    "a VOI table before a window": lambda x: (
        x,
        {"VOILUTSequence": table(np.arange(4096), 0, 12), "WindowCenter": 100, "WindowWidth": 50},
    ),
    "a VOI table for signed values": lambda x: (
        (x.astype(np.int32) - 2048).astype(np.int16),
        {"VOILUTSequence": table(np.arange(4096), -2048, 12)},
    ),
}


@pytest.mark.fault("D6", "D7", "D8")
@pytest.mark.parametrize("twin", TWINS)
def test_twins_of_one_scene_are_equal(write_dicom: Write, scene: np.ndarray, twin: str) -> None:
    values, elements = TWINS[twin](stored(scene))
    atol = 1 / 255 if "8-bit" in twin else HALF_GREY_LEVEL
    np.testing.assert_allclose(read(write_dicom(values.astype(values.dtype), 12, **elements)), scene, atol=atol)


@pytest.mark.fault("D8")
def test_a_window_clips_and_stretches_by_the_formula_of_the_standard(write_dicom: Write) -> None:
    """PS3.3 C.11.2.1.2.1 with centre 100, width 51: y = (x - 99.5) / 50 + 0.5, 0 at and below 74.5, 1 above 124.5."""
    values = np.array([[0, 74, 75, 100, 124, 125, 4000]], np.uint16)
    path = write_dicom(values, 12, WindowCenter=100, WindowWidth=51)
    np.testing.assert_allclose(read(path)[0], [0, 0, 0.01, 0.51, 0.99, 1, 1], atol=1e-6)


def test_the_policy_none_leaves_the_window_and_percentile_takes_the_range_from_the_pixels(write_dicom: Write, scene: np.ndarray) -> None:
    path = write_dicom((1000 + np.rint(scene * 500)).astype(np.uint16), 12, WindowCenter=1250, WindowWidth=100)
    np.testing.assert_allclose(read(path, "none"), np.rint(1000 + scene * 500) / 4095, atol=1e-3)
    np.testing.assert_allclose(read(path, "percentile"), scene, atol=0.01)


@pytest.mark.parametrize("name", ["MR_small.dcm", "693_J2KI.dcm", "examples_overlay.dcm"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_equal_those_of_pydicom(name: str, function: str, tmp_path: Path) -> None:
    header = pydicom.dcmread(shipped(name))
    header.VOILUTFunction = function
    header.pop("PixelPaddingValue", None)
    header.save_as(tmp_path / name)
    values = apply_modality_lut(header.pixel_array, header)
    expected = apply_windowing(values, header)
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    low = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
    scaled = (expected - (low * slope + intercept)) / ((2**header.BitsStored - 1) * slope)
    np.testing.assert_allclose(read(tmp_path / name), scaled, atol=1e-5)


@pytest.mark.fault("D8")
def test_tables_of_real_files_equal_those_of_pydicom(shared_data: Path) -> None:
    folder = shared_data / "dicom/pydicom-data"
    header = pydicom.dcmread(folder / "mlut_18.dcm")
    full = 2 ** header.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    np.testing.assert_allclose(read(folder / "mlut_18.dcm"), apply_modality_lut(header.pixel_array, header) / full, atol=1e-6)
    header = pydicom.dcmread(folder / "vlut_04.dcm")
    full = 2 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1
    np.testing.assert_allclose(read(folder / "vlut_04.dcm"), apply_voi_lut(header.pixel_array, header) / full, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_whichever_way_grey_runs(write_dicom: Write, scene: np.ndarray, photometric: str) -> None:
    values = 1 + np.rint(scene * 4000).astype(np.uint16)
    values[:, :3], values[:, 3:5] = 4095, 4094
    elements = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4094}
    pixels = read(write_dicom(values, 12, **elements))
    assert (pixels[:, :5] == 0).all()
    assert pixels[:, 5:].mean() > 0.2


def test_padding_does_not_move_the_percentiles(write_dicom: Write, scene: np.ndarray) -> None:
    values = (1000 + np.rint(scene * 500)).astype(np.uint16)
    values[:, 20:] = 0
    padded = read(write_dicom(values, 12, PixelPaddingValue=0), "percentile")
    expected = read(write_dicom(values[:, :20], 12), "percentile")
    np.testing.assert_allclose(padded[:, :20], expected, atol=1e-6)


def test_signed_padding_written_as_unsigned_is_found(write_dicom: Write, scene: np.ndarray) -> None:
    values = np.rint(scene * 1000).astype(np.int16)
    values[:3] = -2000
    path = write_dicom(values, 16, RescaleSlope=1, RescaleIntercept=-1024)
    header = pydicom.dcmread(path)
    header.add_new("PixelPaddingValue", "US", 63536)
    header.save_as(path)
    assert (read(path)[:3] == 0).all()
    assert (read(path)[3:] > 0.49).all()


def test_frames_take_rescale_and_window_from_their_functional_groups(write_dicom: Write, scene: np.ndarray) -> None:
    def group(centre: float) -> Dataset:
        window, item = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, 1000, "LINEAR_EXACT"
        item.FrameVOILUTSequence = [window]
        return item

    rescale, shared = Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, 100
    shared.PixelValueTransformationSequence = [rescale]
    frames = np.stack([stored(scene), stored(scene)])
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [group(600), group(2600)]}
    path = write_dicom(frames, 12, **groups)
    np.testing.assert_allclose(read(path, index=0), np.clip(frames[0] / 1000, 0, 1), atol=1e-6)
    np.testing.assert_allclose(read(path, index=1), np.clip((frames[1] - 2000.0) / 1000, 0, 1), atol=1e-6)


def test_float_pixels_are_scaled_by_percentiles(shared_data: Path) -> None:
    path = shared_data / "dicom/pydicom-data/parametric_map_float.dcm"
    low, high = np.percentile(pydicom.dcmread(path).pixel_array, (0.5, 99.5))
    expected = np.clip((pydicom.dcmread(path).pixel_array - low) / (high - low), 0, 1)
    np.testing.assert_allclose(read(path), expected, atol=1e-6)


@pytest.mark.fault("D7")
@pytest.mark.parametrize("elements", [{"RescaleSlope": 0}, {"RescaleSlope": 0, "RescaleIntercept": 5}])
def test_a_slope_of_zero_is_constant(write_dicom: Write, scene: np.ndarray, elements: dict[str, int]) -> None:
    with pytest.raises(ReadError, match=r"^constant: "):
        read(write_dicom(stored(scene), 12, **elements))


def test_a_frame_of_one_value_or_of_padding_only_is_constant(write_dicom: Write) -> None:
    with pytest.raises(ReadError, match=r"^constant: "):
        read(write_dicom(np.full((4, 6), 7, np.uint16), 12))
    with pytest.raises(ReadError, match=r"^constant: "):
        read(write_dicom(np.array([[1, 2], [3, 4]], np.uint16), 12, PixelPaddingValue=0, PixelPaddingRangeLimit=9))


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "NM"])
def test_a_slice_of_one_value_or_of_padding_only_is_empty_which_is_no_fault(write_dicom: Write, modality: str) -> None:
    with pytest.raises(ReadError, match=r"^empty_slice: "):
        read(write_dicom(np.full((4, 6), 7, np.uint16), 12, Modality=modality))
    with pytest.raises(ReadError, match=r"^empty_slice: "):
        read(write_dicom(np.array([[1, 2], [3, 4]], np.uint16), 12, Modality=modality, PixelPaddingValue=0, PixelPaddingRangeLimit=9))


def test_an_unknown_photometric_interpretation_is_no_image(write_dicom: Write, scene: np.ndarray) -> None:
    with pytest.raises(ReadError, match=r"^not_an_image: "):
        read(write_dicom(stored(scene), 12, PhotometricInterpretation="ARGB"))
