import csv
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Image
from nibabel.orientations import aff2axcodes

from medssl.config import Limits
from medssl.data.formats import nifti_header
from medssl.data.readers import nifti
from medssl.errors import ReadError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def reader(**options: object) -> nifti.Reader:
    return nifti.build(nifti.Config.model_validate(options))


def volumes_by_nibabel(path: Path) -> list[np.ndarray]:
    """float64 [x, y, z] in RAS, as nibabel brings them there."""
    values = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).get_fdata())  # pyright: ignore
    return list(np.moveaxis(values.reshape((*values.shape[:3], -1)), -1, 0))


def as_shown(volume: np.ndarray, at: int) -> np.ndarray:
    """A slice of a RAS volume as DICOM shows it: its first pixel lies right and anterior."""
    return np.rot90(volume[:, :, at])[:, ::-1]


def scaled(volume: np.ndarray) -> np.ndarray:
    low, high = np.percentile(volume, (0.5, 99.5))
    if low == high:
        low, high = volume.min(), volume.max()
    return np.clip((volume - low) / (high - low), 0, 1)


def expectations(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "expected_nifti.csv").open() as table:
        return list(csv.DictReader(table))


def test_every_real_file_is_read_as_nibabel_reads_it(shared_data: Path) -> None:
    rows = [row for row in expectations(shared_data) if row["status"] == "ok" and row["nans"] == "0"]
    assert len(rows) == 13
    for row in rows:
        path, read = shared_data / row["path"], reader()
        volumes = volumes_by_nibabel(path)
        depth, stated = volumes[0].shape[2], [int(n) for n in row["shape"].split("x")]
        assert (np.prod(stated), min(map(np.min, volumes))) == (np.size(volumes), pytest.approx(float(row["min"]), rel=1e-4))
        assert max(map(np.max, volumes)) == pytest.approx(float(row["max"]), rel=1e-4)
        assert depth == stated[[letter in "SI" for letter in row["axes"]].index(True)]
        for number, at in itertools.product({0, len(volumes) - 1}, {depth // 2, depth // 3}):
            expected = as_shown(scaled(volumes[number]), at)
            decoded = read.read(path, number * depth + at)
            np.testing.assert_allclose(decoded.pixels[0], expected, atol=2e-6, err_msg=row["path"])
            assert decoded.bits == (8 if row["stored_dtype"] == "uint8" and "someones" not in row["path"] else 16)
        with pytest.raises(ReadError, match="no_such_slice"):
            read.read(path, len(volumes) * depth)


@pytest.mark.fault("N1", "N5")
def test_the_real_files_that_cannot_be_used_are_skipped_for_their_reason(shared_data: Path) -> None:
    rows = {row["path"]: row for row in expectations(shared_data) if row["status"] != "ok" or row["nans"] != "0"}
    assert rows.keys() == {"nifti/nibabel/nifti1.hdr", "nifti/nibabel/resampled_anat_moved.nii"}
    with pytest.raises(ReadError, match="missing_img"):
        reader().read(shared_data / "nifti/nibabel/nifti1.hdr")
    with pytest.raises(ReadError, match=f"non_finite: {rows['nifti/nibabel/resampled_anat_moved.nii']['nans']} of 1071 voxels"):
        reader().read(shared_data / "nifti/nibabel/resampled_anat_moved.nii", 1)


@pytest.mark.fault("N5")
def test_nan_becomes_zero_on_request(shared_data: Path) -> None:
    path = shared_data / "nifti/nibabel/resampled_anat_moved.nii"
    volume = np.nan_to_num(volumes_by_nibabel(path)[0], nan=0)
    np.testing.assert_allclose(reader(non_finite="zero").read(path, 1).pixels[0], as_shown(scaled(volume), 1), atol=2e-6)


@pytest.mark.fault("N5")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_infinite_voxels_are_skipped_or_zero(tmp_path: Path, bad: float) -> None:
    values = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    values[3, 4, 5] = bad
    Nifti1Image(values, LPS).to_filename(tmp_path / "a.nii")
    with pytest.raises(ReadError, match="non_finite: 1 of 1000"):
        reader().read(tmp_path / "a.nii")
    assert reader(non_finite="zero").read(tmp_path / "a.nii", 5).pixels[0, 4, 3] == 0


ORIENTATIONS = [
    "".join(axes[place] for place in places) for axes in itertools.product("RL", "AP", "SI") for places in itertools.permutations(range(3))
]


@pytest.mark.fault("N6")
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_marker_lands_where_the_patient_has_it_whatever_the_stored_axes(tmp_path: Path, axes: str) -> None:
    """A volume of 6 (right to left) x 5 (anterior to posterior) x 4 (feet to head) voxels, the marker at column 1, row 3, slice 2.
    By hand: along a stored axis that runs the other way it lies at the mirrored place."""
    sizes, marker, voxel = {"RL": 6, "AP": 5, "SI": 4}, {"RL": 1, "AP": 3, "SI": 2}, {"RL": 2.0, "AP": 3.0, "SI": 4.0}
    affine, shape, place = np.zeros((4, 4)), [], []
    affine[3, 3] = 1
    for stored, letter in enumerate(axes):
        kind = next(kind for kind in sizes if letter in kind)
        forwards = letter in "LPS"  # the letter says where the axis goes: L from right to left
        shape.append(sizes[kind])
        place.append(marker[kind] if forwards else sizes[kind] - 1 - marker[kind])
        affine["RLAPSI".find(letter) // 2, stored] = voxel[kind] * (1 if letter in "RAS" else -1)
    assert "".join(aff2axcodes(affine)) == axes
    values = np.zeros(shape, np.int16)
    values[tuple(place)] = 7
    Nifti1Image(values, affine).to_filename(tmp_path / "a.nii")
    decoded = reader().read(tmp_path / "a.nii", 2)
    assert decoded.pixels.shape == (1, 5, 6)
    assert np.argwhere(decoded.pixels[0]).tolist() == [[3, 1]]
    assert decoded.spacing_mm == (3.0, 2.0)


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.fault("N6")
def test_an_oblique_volume_is_shown_by_its_closest_axes(tmp_path: Path) -> None:
    turn = np.deg2rad(20)
    affine = LPS.copy()
    affine[:2, :2] = [[-np.cos(turn), np.sin(turn)], [-np.sin(turn), -np.cos(turn)]]
    values = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    Nifti1Image(values, affine).to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(reader(window="none").read(tmp_path / "a.nii", 1).pixels[0] * 65535 - 32768, values[:, :, 1].T, atol=0.01)


@pytest.mark.fault("N6")
@pytest.mark.parametrize("pixdim", [(0, 2, 3, 4), (-1, 2, 3, 4), (5, 2, 3, 4), (1, -2, 3, 4), (-1, -2, -3, -4)])
def test_a_qform_with_edges_or_a_handedness_that_nibabel_mends_is_read_as_nibabel_reads_it(tmp_path: Path, pixdim: tuple[int, ...]) -> None:
    image = Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), LPS)
    image.set_qform(LPS, code=1)
    image.set_sform(None, code=0)
    image.to_filename(tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as file:
        file.seek(76)
        file.write(np.array(pixdim, "<f4").tobytes())
    expected = as_shown(scaled(volumes_by_nibabel(tmp_path / "a.nii")[0]), 1)
    decoded = reader().read(tmp_path / "a.nii", 1)
    np.testing.assert_allclose(decoded.pixels[0], expected, atol=2e-6)
    assert decoded.spacing_mm == (3, 2)


@pytest.mark.fault("N6")
@pytest.mark.parametrize("broken", ["no codes", "zero pixdim", "zero sform", "sform of NaN"])
def test_a_file_without_orientation_or_spacing_is_read_as_left_anterior_superior(tmp_path: Path, broken: str) -> None:
    values = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    image = Nifti1Image(values, np.eye(4))
    image.header.set_sform(np.eye(4) * (broken == "no codes"), code=int(broken.startswith(("zero sform", "sform"))))
    image.header.set_qform(np.eye(4), code=0)
    image.to_filename(tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as file:
        file.seek(76)
        file.write(np.array([1, 0, 0, 0] if broken == "zero pixdim" else [1, 2, 3, 4], "<f4").tobytes())
        file.seek(252)
        file.write(np.array([0, int("sform" in broken)], "<i2").tobytes())
        file.seek(280)
        file.write(np.full(12, np.nan if "NaN" in broken else 0, "<f4").tobytes())
    decoded = reader().read(tmp_path / "a.nii", 1)
    np.testing.assert_allclose(decoded.pixels[0], scaled(values.astype(float))[:, ::-1, 1].T, atol=1e-6)
    assert decoded.spacing_mm == (None if broken == "zero pixdim" else (3.0, 2.0))


def test_spacing_in_metres_and_micrometres_is_told_in_millimetres(tmp_path: Path) -> None:
    for unit, edge in (("meter", 0.002), ("micron", 2000.0), ("mm", 2.0), ("unknown", 2.0)):
        image = Nifti1Image(np.arange(24, dtype=np.uint8).reshape(4, 3, 2), np.diag([-edge, -edge, edge, 1]))
        image.header.set_xyzt_units(unit)
        image.to_filename(tmp_path / "a.nii")
        assert reader().read(tmp_path / "a.nii").spacing_mm == pytest.approx((2.0, 2.0))
        affine = nifti_header.read(tmp_path / "a.nii", Limits()).affine
        assert affine is not None
        np.testing.assert_allclose(affine, np.diag([-2, -2, 2, 1]), rtol=1e-6)


def test_a_voxel_of_metres_in_a_file_that_names_the_wrong_unit_is_one_of_millimetres(tmp_path: Path) -> None:
    image = Nifti1Image(np.arange(24, dtype=np.uint8).reshape(4, 3, 2), np.diag([-0.5, -0.5, 5, 1]))
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "a.nii")
    assert nifti_header.read(tmp_path / "a.nii", Limits()).volume_mm == (5, 0.5, 0.5)


@pytest.mark.parametrize("pixdim", [(1, 1, 1), (0, 0, 0), (np.nan, 2, 2)])
def test_where_pixdim_and_the_sform_disagree_voxels_have_the_size_of_the_sform(tmp_path: Path, pixdim: tuple[float, ...]) -> None:
    turned = np.array([[0, -2.0, 0, 0], [0.7, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    Nifti1Image(np.arange(24, dtype=np.uint8).reshape(4, 3, 2), turned).to_filename(tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as file:
        file.seek(80)
        file.write(np.array(pixdim, "<f4").tobytes())
    header = nifti_header.read(tmp_path / "a.nii", Limits())
    assert header.volume_mm == pytest.approx((5, 0.7, 2)) and header.orientation == "ALS"


@pytest.mark.parametrize("kind", ["a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("version", [1, 2])
def test_single_files_pairs_compressed_files_and_both_versions_hold_the_same_picture(tmp_path: Path, kind: str, version: int) -> None:
    values = np.random.default_rng(0).integers(0, 3000, (6, 5, 4), np.int16)
    make = (
        Nifti1Pair
        if kind == "a.hdr" and version == 1
        else nibabel.Nifti2Pair
        if kind == "a.hdr"
        else (Nifti1Image, Nifti2Image)[version - 1]
    )
    make(values, LPS).to_filename(tmp_path / kind)
    np.testing.assert_allclose(reader().read(tmp_path / kind, 3).pixels[0], scaled(values)[:, :, 3].T, atol=1e-6)
    with (tmp_path / kind).open("rb") as file:
        assert nifti.recognises(file.read(4096))


@pytest.mark.fault("N7")
def test_four_and_five_axes_are_volumes_after_each_other_each_on_its_own_scale(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 3000, (6, 5, 4, 3, 2), np.int16)
    values[..., 2, 1] //= 10
    Nifti1Image(values, LPS).to_filename(tmp_path / "a.nii.gz")
    read = reader()
    for number in (0, 5, 2, 3):  # forwards and backwards
        volume = values[..., number % 3, number // 3]
        np.testing.assert_allclose(read.read(tmp_path / "a.nii.gz", number * 4 + 1).pixels[0], scaled(volume)[:, :, 1].T, atol=1e-6)


def test_a_picture_of_two_axes_is_one_slice(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.uint8).reshape(6, 5)
    Nifti1Image(values, LPS).to_filename(tmp_path / "a.nii")
    assert reader().read(tmp_path / "a.nii").pixels.shape == (1, 5, 6)


def test_colours_have_three_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)
    stored = np.ascontiguousarray(values).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    Nifti1Image(stored, LPS).to_filename(tmp_path / "a.nii")
    decoded = reader().read(tmp_path / "a.nii", 2)
    np.testing.assert_allclose(decoded.pixels, values[:, :, 2].transpose(2, 1, 0) / 255, atol=1e-6)
    assert decoded.bits == 8


def test_windows_in_hu_are_channels_and_none_keeps_the_stored_range(tmp_path: Path) -> None:
    """By hand: lung is -600/1500, so -1350 is black, 150 white, and -600 in the middle."""
    values = np.array([-2000, -1350, -600, 150, 40, 240], np.int16).reshape(6, 1, 1) * np.ones((1, 2, 2), np.int16)
    Nifti1Image(values, LPS).to_filename(tmp_path / "a.nii")
    lung, soft = reader(window="lung,40/400").read(tmp_path / "a.nii").pixels
    np.testing.assert_allclose(lung[0], [0, 0, 0.5, 1, (40 + 1350) / 1500, 1], atol=1e-6)
    np.testing.assert_allclose(soft[0], [0, 0, 0, 0.775, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(reader(window="none").read(tmp_path / "a.nii").pixels[0, 0, 1], (-1350 + 32768) / 65535, atol=1e-6)


def test_the_scale_of_the_file_comes_before_the_window(tmp_path: Path) -> None:
    image = Nifti1Image(np.arange(60, dtype=np.uint8).reshape(5, 4, 3), LPS)
    image.header.set_slope_inter(-10, 100)
    image.to_filename(tmp_path / "a.nii")
    expected = np.clip((volumes_by_nibabel(tmp_path / "a.nii")[0] + 160) / 400, 0, 1)
    decoded = reader(window="40/400").read(tmp_path / "a.nii", 1)
    np.testing.assert_allclose(decoded.pixels[0], as_shown(expected, 1), atol=1e-6)
    assert decoded.bits == 16
    np.testing.assert_allclose(reader(window="none").read(tmp_path / "a.nii", 1).pixels[0, 0, 0], (255 - 1) / 255, atol=1e-6)


@pytest.mark.fault("N5")
@pytest.mark.parametrize("slope", [np.nan, np.inf, 0.0])
def test_a_slope_that_is_no_number_or_zero_means_unscaled(tmp_path: Path, slope: float) -> None:
    values = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    Nifti1Image(values, LPS).to_filename(tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as file:
        file.seek(112)
        file.write(np.array([slope, 7], "<f4").tobytes())
    decoded = reader(window="none").read(tmp_path / "a.nii", 2)
    np.testing.assert_allclose(decoded.pixels[0] * 255, values[:, :, 2].T, atol=1e-4)
    assert decoded.bits == 8


@pytest.mark.fault("N5")
def test_a_constant_volume_and_an_empty_slice_are_told_apart(tmp_path: Path) -> None:
    values = np.full((5, 4, 3), 9, np.int16)
    Nifti1Image(values, LPS).to_filename(tmp_path / "a.nii")
    with pytest.raises(ReadError, match="constant: "):
        reader().read(tmp_path / "a.nii", 1)
    values[2, 2, 1] = 10
    Nifti1Image(values, LPS).to_filename(tmp_path / "b.nii")
    with pytest.raises(ReadError, match="empty_slice: "):
        reader().read(tmp_path / "b.nii", 0)
    assert reader().read(tmp_path / "b.nii", 1).pixels[0].sum() == 1  # one voxel in sixty: outside the percentiles, and yet seen


def test_a_volume_is_unpacked_once_for_all_its_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Nifti1Image(np.random.default_rng(0).integers(0, 99, (5, 4, 3, 2), np.int16), LPS).to_filename(tmp_path / "a.nii.gz")
    unpacked, original = [], nifti.nifti_header.voxels
    monkeypatch.setattr(nifti.nifti_header, "voxels", lambda *given: unpacked.append(given[-1]) or original(*given))
    read = reader(limits=Limits())
    for index in range(6):
        read.read(tmp_path / "a.nii.gz", index)
    assert unpacked == [0, 1]
