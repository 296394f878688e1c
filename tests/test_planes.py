"""Volumes as pictures: a marker lies where a radiologist looks for it, the letters say so, and millimetres decide the proportions."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medssl.planes import CUBES, Planes

EDGE = 162  # two planes of 80 pixels and the gap
PLANES = {
    "coronal": (slice(0, 80), slice(0, 80)),
    "sagittal": (slice(0, 80), slice(82, 162)),
    "axial": (slice(82, 162), slice(0, 80)),
}
PLAIN = Planes(letters=False)


def centre(plane: np.ndarray) -> tuple[float, float]:
    """Where the bright pixels of a plane lie, from (0, 0), the upper left corner, to (1, 1)."""
    y, x = np.argwhere(plane > plane.max() / 2).mean(axis=0) / (np.array(plane.shape) - 1)
    return float(y), float(x)


@pytest.mark.parametrize(
    ("side", "place", "seen"),
    [
        ("head", (39, 20, 20), {"coronal": (0, 0.5), "sagittal": (0, 0.5)}),
        ("feet", (0, 20, 20), {"coronal": (1, 0.5), "sagittal": (1, 0.5)}),
        ("front", (20, 0, 20), {"sagittal": (0.5, 0), "axial": (0, 0.5)}),
        ("back", (20, 39, 20), {"sagittal": (0.5, 1), "axial": (1, 0.5)}),
        ("the patient's right", (20, 20, 0), {"coronal": (0.5, 0), "axial": (0.5, 0)}),
        ("the patient's left", (20, 20, 39), {"coronal": (0.5, 1), "axial": (0.5, 1)}),
    ],
)
def test_a_marker_lies_where_a_radiologist_looks_for_it(side, place, seen):
    volume = np.zeros((1, 40, 40, 40), np.uint8)
    volume[0][place] = 200
    tile = PLAIN.picture(volume, edge=EDGE)
    assert tile.shape == (1, EDGE, EDGE)
    for plane, at in PLANES.items():
        if plane in seen:
            assert centre(tile[0][at]) == pytest.approx(seen[plane], abs=0.03), side
        else:
            assert not tile[0][at].any(), side


def test_the_planes_go_through_the_voxel_that_is_asked_for():
    volume = np.zeros((1, 8, 8, 8), np.uint8)
    volume[0, 6, 1, 2] = 255
    assert not PLAIN.picture(volume).any()
    tile = PLAIN.picture(volume, at=(6, 1, 2), edge=EDGE)
    assert [round(8 * part) for part in centre(tile[0][PLANES["coronal"]])] == [1, 2]  # one voxel below the head: the middle is at 1.5 of 8
    assert [round(8 * part) for part in centre(tile[0][PLANES["sagittal"]])] == [1, 2 - 1]
    assert [round(8 * part) for part in centre(tile[0][PLANES["axial"]])] == [1, 2]


def test_voxels_of_a_small_volume_stay_visible_cubes_and_keep_their_values():
    volume = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 8), np.uint8)
    tile = PLAIN.picture(volume, edge=EDGE)
    assert np.array_equal(tile[:, 82::10, :80:10], volume[:, 4])
    assert np.array_equal(tile[:, 82:162, :80].reshape(2, 8, 10, 8, 10).min(axis=(2, 4)), volume[:, 4])
    assert not tile[:, 82:, 82:].any(), "the fourth quarter is empty"


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0)])
def test_a_tile_has_the_type_of_its_volume_and_white_letters(dtype, white):
    tile = CUBES.picture(np.zeros((1, 16, 16, 16), dtype))
    assert tile.dtype == dtype
    assert tile.max() > 0.9 * white
    assert 0.005 < (tile > 0.5 * white).mean() < 0.05


def test_letters_stand_at_the_sides_that_they_name():
    """Without any volume behind them: the letters of left and right are at the ends of the coronal and axial plane, and differ."""
    tile = Planes().picture(np.zeros((1, 40, 40, 40), np.uint8), edge=EDGE)[0] > 128
    coronal, sagittal, axial = (tile[plane] for plane in PLANES.values())
    for plane in (coronal, sagittal, axial):
        assert plane[:14, 34:46].any() and plane[-14:, 34:46].any() and plane[34:46, :12].any() and plane[34:46, -12:].any()
        assert not plane[16:64, 16:64].any()
    right, left = coronal[34:46, :12], coronal[34:46, -12:]
    assert right.sum() > left.sum(), "R has more strokes than L"
    assert np.array_equal(axial[34:46, :12], right) and np.array_equal(axial[34:46, -12:], left)
    assert not np.array_equal(sagittal[34:46, :12], right)
    letter_a = sagittal[34:46, :12]
    assert axial[:14, 34:46].sum() == letter_a.sum(), "A is left in the sagittal plane and above in the axial one"


def test_letters_can_be_read_on_white():
    white = CUBES.picture(np.full((1, 16, 16, 16), 255, np.uint8), edge=EDGE)[0]
    assert white[PLANES["coronal"]].min() < 64


def test_millimetres_decide_the_proportions():
    volume = np.full((1, 10, 20, 20), 200, np.uint8)
    flat, thick = (Planes(mm, letters=False).picture(volume, edge=EDGE)[0] > 0 for mm in ((1.0, 1.0, 1.0), (4.0, 1.0, 1.0)))
    for tile, slices in ((flat, 10), (thick, 40)):
        rows, columns = tile.any(axis=1).sum(), tile.any(axis=0).sum()
        assert rows / columns == pytest.approx((slices + 20) / 40, rel=0.04)


def test_an_image_is_its_own_picture():
    image = np.random.default_rng(0).integers(0, 255, (3, 5, 7), np.uint8)
    assert CUBES.picture(image) is image


def test_a_store_says_how_its_volumes_are_shown():
    def of(spacing, orientation):
        return Planes.of({"settings": {"spacing_mm": spacing}}, pd.DataFrame({"orientation": orientation}))

    assert of(None, ["RAS", "LPS"]) == Planes((1, 1, 1), True)
    assert of([3.0, 1.0, 0.5], ["RAS"]).voxel_mm == (3.0, 1.0, 0.5)
    assert of(None, ["RAS", ""]).letters is False, "of one volume nobody knows which side is left"
    assert Planes.of({"settings": {}}, pd.DataFrame({"key": ["a"]})).letters is False


def test_a_long_volume_is_shown_whole():
    volume = SimpleNamespace(shape=(1, 200, 30, 20))
    tile = PLAIN.picture(np.full(volume.shape, 9, np.uint8), edge=120)
    assert tile.shape == (1, 120, 120)
    assert tile[0, 0].any() and tile[0, -2].any() and not tile[0, :, 0].any()
