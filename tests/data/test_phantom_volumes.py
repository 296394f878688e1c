"""The drawn volumes: how many voxels each shape has, and that only its form tells which it is."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medssl.data.phantom_volumes import SHAPES, draw_volume, voxel_count
from medssl.data.sources.phantom_volumes import Config, scans, voxels_of


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """900 volumes, so many that chance moves an AUROC by 0.02, and their shapes."""
    config = Config(patients=900, size=16)
    found = list(scans(config))
    return np.stack([voxels_of(scan, config) for scan in found]), np.array([scan.shape for scan in found])


def shape_voxels(volume: np.ndarray, number: int) -> np.ndarray:
    """The places [n, 3] of the brightest voxels of a volume, which are those of its shape where the noise is weak."""
    return np.argwhere(volume > np.sort(volume, axis=None)[-number - 1])


def spreads(points: np.ndarray) -> np.ndarray:
    """The standard deviations along the three main axes of a cloud of points, the largest first."""
    return np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / len(points) ** 0.5


def test_a_volume_is_a_function_of_its_key():
    one = draw_volume((0, 1), "cube", 24, 300)
    assert one.shape == (24, 24, 24)
    assert one.dtype == np.float32
    assert 0 <= one.min() < one.max() <= 1
    assert np.array_equal(one, draw_volume((0, 1), "cube", 24, 300))
    assert not np.array_equal(one, draw_volume((0, 2), "cube", 24, 300))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_has_exactly_the_voxels_that_it_is_given_and_none_is_cut_off(shape, monkeypatch):
    monkeypatch.setattr("medssl.data.phantom_volumes._NOISE", 0.0)
    monkeypatch.setattr("medssl.data.phantom_volumes._BIAS", 0.0)
    for patient in range(8):
        number = voxel_count((3, patient), 32)
        volume = draw_volume((3, patient), shape, 32, number)
        assert (volume == volume.max()).sum() == number
        assert len(np.unique(volume)) == 2
        at = np.argwhere(volume == volume.max())
        assert at.min() >= 1
        assert at.max() <= 30


def test_the_shapes_have_the_spreads_of_a_ball_a_cube_and_an_ellipsoid(monkeypatch):
    """A ball of radius r has the standard deviation r / sqrt(5) along each axis, a cube with half edge h has h / sqrt(3), an ellipsoid
    with half axis a has a / sqrt(5)."""
    monkeypatch.setattr("medssl.data.phantom_volumes._NOISE", 0.0)
    monkeypatch.setattr("medssl.data.phantom_volumes._BIAS", 0.0)
    number = 8_000  # of 96^3 voxels
    radius = (3 * number / 4 / np.pi) ** (1 / 3)
    expected = {
        "sphere": radius / 5**0.5 * np.ones(3),
        "cube": (np.pi / 6) ** (1 / 3) * radius / 3**0.5 * np.ones(3),
        "ellipsoid": radius / 5**0.5 * np.array([3.0, 3**-0.5, 3**-0.5]),
    }
    for shape in SHAPES:
        found = spreads(shape_voxels(draw_volume((1, 1), shape, 96, number), number))
        assert found == pytest.approx(expected[shape], rel=0.02)
    half = (np.pi / 6) ** (1 / 3) * radius
    cube = shape_voxels(draw_volume((1, 1), "cube", 96, number), number)
    farthest = np.linalg.norm(cube - cube.mean(axis=0), axis=1).max()
    assert farthest == pytest.approx(3**0.5 * half, rel=0.05), "a cube has corners"


def test_a_threshold_and_a_count_cannot_tell_the_shapes_apart(drawn):
    volumes, shapes = drawn
    flat = volumes.reshape(len(volumes), -1)
    measures = [
        flat.mean(axis=1),
        flat.std(axis=1),
        flat.max(axis=1),
        *((flat > level).sum(axis=1) for level in np.arange(0.4, 0.85, 0.05)),
    ]
    for measure in measures:
        for shape in SHAPES:
            assert roc_auc_score(shapes == shape, measure) == pytest.approx(0.5, abs=0.08)


def test_the_shapes_are_equally_frequent_and_lie_elsewhere_in_each_volume(drawn):
    volumes, shapes = drawn
    assert {shape: int((shapes == shape).sum()) for shape in SHAPES} == dict.fromkeys(SHAPES, 300)
    bright = [np.argwhere(volume > volume.max() - 0.1).mean(axis=0) for volume in volumes]
    assert np.std(bright, axis=0).min() > 0.8


def test_a_turned_cube_is_as_often_turned_one_way_as_another(monkeypatch):
    """Of rotations that are all equally likely the mean is zero."""
    from medssl.data.phantom_volumes import _random_turn

    turns = np.stack([_random_turn(np.random.default_rng([7, i])) for i in range(1000)])
    assert np.abs(turns.mean(axis=0)).max() < 0.08
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-5)
    assert np.allclose(np.linalg.det(turns), 1, atol=1e-5)
