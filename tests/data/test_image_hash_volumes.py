"""Perceptual hashes of volumes: cells worked out by hand, and near copies that are found."""

import numpy as np
import pytest
import torch

from medssl.data.image_hash import box_means, dhash, shrink_volume
from medssl.data.split.near_duplicates import confirm_pairs, near_pairs

RANDOM = np.random.default_rng(0)


def blobs(seed: int, edge: int = 20) -> np.ndarray:
    """A smooth volume, as anatomy is: noise of 5 x 5 x 5 cells, enlarged."""
    coarse = torch.from_numpy(np.random.default_rng(seed).random((1, 1, 5, 5, 5), np.float32))
    return (torch.nn.functional.interpolate(coarse, (edge,) * 3, mode="trilinear")[0].numpy() * 200 + 20).astype(np.uint8)


def test_cells_are_the_means_of_their_voxels():
    volume = RANDOM.integers(0, 256, (1, 8, 12, 20), np.uint8)
    expected = volume[0].reshape(4, 2, 4, 3, 5, 4).mean(axis=(1, 3, 5))
    assert np.array_equal(shrink_volume(volume, (4, 4, 5)), np.rint(expected).astype(np.uint8))


def test_a_voxel_on_a_border_counts_for_both_cells_by_its_parts():
    row = np.array([0, 30, 90], np.float32).reshape(1, 1, 3)
    assert box_means(row, (1, 1, 2)).ravel() == pytest.approx([(0 + 15) / 1.5, (15 + 90) / 1.5])


def test_channels_and_sixteen_bits_give_the_cells_of_eight_bits():
    volume = RANDOM.integers(0, 256, (1, 8, 8, 10), np.uint8)
    assert dhash(volume) == dhash(volume.astype(np.uint16) * 257) == dhash(np.repeat(volume, 2, axis=0))


def test_the_bits_compare_each_cell_with_its_right_neighbour():
    rising = np.broadcast_to(np.arange(0, 200, 10, dtype=np.uint8), (1, 20, 20, 20))
    assert dhash(rising) == 2**64 - 1
    assert dhash(rising[..., ::-1]) == 0
    assert dhash(np.full((1, 8, 8, 8), 7, np.uint8)) == 0


def test_near_copies_of_volumes_are_found_and_other_volumes_are_not():
    first = [blobs(seed) for seed in range(30)]
    noise = RANDOM.integers(-3, 4, (30, *first[0].shape))
    copies = [np.clip(volume * 0.95 + 5 + change, 0, 255).astype(np.uint8) for volume, change in zip(first, noise, strict=True)]
    images = np.stack([*first, *copies, *(blobs(seed) for seed in range(100, 130))])
    hashes = np.array([dhash(volume) for volume in images], np.uint64)
    pairs = confirm_pairs(images, (block + np.array([0, 30]) for block in near_pairs(hashes[:30], hashes[30:])))
    assert sorted(map(tuple, pairs.tolist())) == [(row, row + 30) for row in range(30)]
