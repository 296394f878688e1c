"""Whole volumes fitted to their size: cubic voxels, nothing lost or moved, antialiased, thick slices kept apart."""

from typing import Any, cast

import numpy as np
import pytest
import torch

from medssl.config import Data
from medssl.data.volume_preparation import VolumePreparation
from medssl.errors import ReadError, UserError
from medssl.types import Decoded, VolumeFacts


def prepare_volume(volume: Decoded, size: object, **settings: Any) -> np.ndarray:
    return VolumePreparation(Data.model_validate({"volumes": "whole", "size": size, **settings}))(volume)


def edges_of(prepared: np.ndarray) -> tuple[int, ...]:
    """The number of slices, rows and columns that hold anything."""
    found = np.argwhere(prepared[0] > 0.4 * prepared.max())
    return tuple((found.max(0) - found.min(0) + 1).tolist())


def blob(shape: tuple[int, ...], spacing: tuple[float, ...], mm: tuple[float, ...], width: float = 4.0) -> np.ndarray:
    """A round bright spot with its centre at `mm` from the middle of the volume."""
    axes = [(np.arange(n) - (n - 1) / 2) * step - at for n, step, at in zip(shape, spacing, mm, strict=True)]
    squares = sum(np.meshgrid(*(axis**2 for axis in axes), indexing="ij"))
    return np.exp(-squares / (2 * width**2)).astype(np.float32)


def centre_mm(prepared: np.ndarray, edge_mm: float) -> np.ndarray:
    """The centre of mass, in mm from the middle."""
    weights = prepared[0].astype(np.float64)
    places = [(np.arange(n) - (n - 1) / 2) * edge_mm for n in weights.shape]
    return np.array([(weights.sum(axis=tuple({0, 1, 2} - {k})) * places[k]).sum() / weights.sum() for k in range(3)])


def test_a_volume_of_the_size_keeps_its_very_values() -> None:
    stored = np.random.default_rng(0).integers(0, 256, (1, 16, 20, 24), np.uint8)
    np.testing.assert_array_equal(prepare_volume(Decoded(stored.astype(np.float32) / 255, 8), [16, 20, 24]), stored)


@pytest.mark.parametrize(
    ("shape", "spacing", "size", "expected"),
    [
        ((40, 40, 40), (1, 1, 1), 20, (20, 20, 20)),
        ((20, 40, 40), (2, 1, 1), 20, (20, 20, 20)),
        ((10, 40, 20), (1, 1, 1), 20, (5, 20, 10)),
        ((10, 40, 20), (1, 1, 1), [10, 20, 20], (5, 20, 10)),
        ((40, 20, 20), None, [8, 32, 32], (8, 4, 4)),
        ((10, 10, 10), (1, 1, 1), 20, (20, 20, 20)),
        ((2000, 8, 8), (1, 1, 1), 20, (20, 1, 1)),
        ((10, 40, 40), (10, 1, 1), 20, (20, 8, 8)),
    ],
)
def test_the_whole_volume_is_kept_with_its_proportions(shape: Any, spacing: Any, size: Any, expected: Any) -> None:
    prepared = prepare_volume(Decoded(np.ones((1, *shape), np.float32), 8, spacing), size)
    assert prepared.shape == (1, *((size,) * 3 if isinstance(size, int) else size))
    assert edges_of(prepared) == expected
    for low, high in zip(*(f(np.argwhere(prepared[0] > 100), axis=0) for f in (np.min, np.max)), strict=True):
        assert low >= 0 and high < max(prepared.shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8), (0.7, 1.9, 1.1)])
@pytest.mark.parametrize("target", [None, 2.0])
def test_a_mark_stays_where_it_was_within_half_a_voxel(spacing: tuple[float, ...], target: float | None) -> None:
    shape = tuple(round(90 / step) for step in spacing)
    edge = target or max(n * step for n, step in zip(shape, spacing, strict=True)) / 48
    marks = [Decoded(blob(shape, spacing, mm)[None], 16, spacing) for mm in ((12, -20, 8), (-4, 16, -20))]
    here, there = (centre_mm(prepare_volume(mark, 48, spacing_mm=target), edge) for mark in marks)
    np.testing.assert_allclose(here - there, (16, -36, 28), atol=edge / 2)
    np.testing.assert_allclose(here, (12, -20, 8), atol=edge)  # the middle is between two voxels where the size is even


@pytest.mark.slow
def test_a_mark_lies_where_monais_spacing_puts_it() -> None:
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import Spacing

    spacing, shape = (2.5, 0.8, 0.8), (36, 110, 100)
    mark = blob(shape, spacing, (12, -20, 8))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(shape, spacing, strict=True)]
    placed = MetaTensor(mark[None], affine=torch.as_tensor(affine))
    resampled = cast(MetaTensor, Spacing(pixdim=(2.0, 2.0, 2.0), mode="bilinear")(placed))
    weights = np.asarray(resampled[0], np.float64)
    centre = np.stack(np.meshgrid(*map(np.arange, weights.shape), indexing="ij"), -1).reshape(-1, 3)
    monai = np.asarray(resampled.affine)[:3] @ np.append((centre * weights.reshape(-1, 1)).sum(0) / weights.sum(), 1)
    ours = centre_mm(prepare_volume(Decoded(mark[None], 16, spacing), 45, spacing_mm=2.0), 2.0)
    np.testing.assert_allclose(ours, monai, atol=1.0)


def test_shrinking_does_not_alias_along_any_axis() -> None:
    for axis in range(3):
        stripes = np.swapaxes(np.tile(np.array([0, 1], np.float32), (64, 64, 32)), axis, 2)[None]
        inner = prepare_volume(Decoded(stripes, 8), 16)[0, 2:-2, 2:-2, 2:-2]
        assert abs(inner.astype(int) - 127.5).max() <= 1.5


def test_between_thick_slices_nothing_is_mixed_and_between_thin_ones_it_is() -> None:
    volume = np.zeros((1, 6, 24, 24), np.float32)
    volume[:, ::2] = 1
    thick = prepare_volume(Decoded(volume, 8, (4.0, 1.0, 1.0)), 24)
    thin = prepare_volume(Decoded(volume, 8, (3.0, 1.0, 1.0)), [18, 24, 24])
    assert set(np.unique(thick)) == {0, 255}
    assert len(np.unique(thin)) > 2
    coronal = prepare_volume(Decoded(volume.swapaxes(1, 2), 8, (1.0, 4.0, 1.0)), 24)
    np.testing.assert_array_equal(coronal, thick.swapaxes(1, 2))


@pytest.mark.parametrize("spacing", [(1e6, 1.0, 1.0), (1.0, 1e6, 1e-3), (1e-6, 1e-6, 1e-6)])
def test_absurd_spacings_take_no_memory(spacing: tuple[float, ...]) -> None:
    volume = Decoded(np.ones((1, 10, 10, 10), np.float32), 8, spacing)
    assert prepare_volume(volume, 16).shape == prepare_volume(volume, 16, spacing_mm=1.0).shape == (1, 16, 16, 16)


def test_one_scale_for_all_pads_or_cuts_around_the_middle() -> None:
    volume = Decoded(np.ones((1, 30, 40, 20), np.float32), 8, (2.0, 2.0, 2.0))
    assert edges_of(prepare_volume(volume, 32, spacing_mm=2.0)) == (30, 32, 20)
    assert edges_of(prepare_volume(volume, 32, spacing_mm=[4.0, 2.0, 1.0])) == (15, 32, 32)
    with pytest.raises(ReadError, match="no_spacing"):
        prepare_volume(Decoded(volume.pixels, 8), 32, spacing_mm=1.0)


def test_what_is_outside_the_foreground_takes_no_place() -> None:
    volume = np.zeros((1, 40, 40, 40), np.float32)
    volume[:, 10:20, 5:15, 25:35] = 1
    facts = VolumeFacts(foreground=((10, 20), (5, 15), (25, 35)))
    assert (prepare_volume(Decoded(volume, 8, (1.0, 1.0, 1.0), volume=facts), 10) == 255).all()


@pytest.mark.slow
def test_transforms_of_monai_get_the_volume_without_its_border() -> None:
    step = [{"name": "monai.transforms.ScaleIntensityRange", "a_min": 0, "a_max": 1, "b_min": 1, "b_max": 0}]
    volume = Decoded(np.full((1, 8, 8, 8), 0.25, np.float32), 8)
    assert (prepare_volume(volume, 8, transforms=step) == 191).all()


def test_colours_become_luminance_and_sixteen_bits_stay() -> None:
    colours = np.stack([np.full((8, 8, 8), level, np.float32) for level in (1.0, 0.5, 0.0)])
    assert set(np.unique(prepare_volume(Decoded(colours, 8), 8))) == {round(255 * (0.299 + 0.587 / 2))}
    assert prepare_volume(Decoded(colours[:1], 12), 8).dtype == np.uint16


def test_three_numbers_belong_to_whole_volumes_and_one_number_becomes_three() -> None:
    whole = Data.model_validate({"volumes": "whole", "spacing_mm": 2})
    assert (whole.size, whole.spacing_mm) == ((64, 64, 64), (2, 2, 2))
    assert Data.model_validate(whole.model_dump(mode="json")) == whole
    for wrong in ({"spacing_mm": [1, 2, 3]}, {"size": [32, 32, 32]}):
        with pytest.raises(ValueError, match=r"data\.volumes=whole"):
            Data.model_validate(wrong)


@pytest.mark.slow
def test_images_are_no_volumes_for_the_transforms_check() -> None:
    from medssl.data.preparation import check_transforms

    flat = Data.model_validate({"volumes": "whole", "transforms": [{"name": "monai.transforms.Resize", "spatial_size": [16, 16]}]})
    with pytest.raises(UserError, match=r"data\.transforms"):
        check_transforms(flat)
