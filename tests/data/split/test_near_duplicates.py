"""What is called a near duplicate: copies are found, other patients are not."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medssl.data.image_hash import dhash
from medssl.data.split.near_duplicates import confirm_pairs, near_pairs


def all_pairs(a: np.ndarray, b: np.ndarray, limit: int) -> set[tuple[int, int]]:
    distance = np.bitwise_count(a[:, None] ^ b[None])
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(distance <= limit), strict=True) if a[i] and b[j]}


def found(pairs: Iterator[np.ndarray]) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for block in pairs for i, j in block]


@pytest.fixture(scope="module")
def radiographs(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [761, 1, 224, 224] and the patients."""
    folder = shared_data / "chestxray/nih_pneumonia_224"
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    images = np.stack([np.asarray(Image.open(folder / name).convert("L"))[None] for name in table["image"]])
    return images, table["patient_id"].to_numpy(str)


def hashes_of(images: np.ndarray) -> np.ndarray:
    return np.array([dhash(image) for image in images], np.uint64)


def test_each_bit_says_whether_a_cell_is_darker_than_its_right_neighbour() -> None:
    cells = np.zeros((8, 9), np.uint8)
    cells[0, 1] = cells[7, 8] = 200  # darker than the neighbour: the first bit of row 0 and the last bit of row 7
    image = np.kron(cells, np.ones((4, 3), np.uint8))[None]
    assert dhash(image) == 2**63 + 1


def test_eight_and_sixteen_bits_and_one_and_three_channels_have_one_hash() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 50, 40), np.uint8)
    assert dhash(image) == dhash(image.astype(np.uint16) * 257) == dhash(np.repeat(image, 3, axis=0))


def test_flat_images_have_the_hash_zero_and_are_like_nothing() -> None:
    flat = dhash(np.full((1, 224, 224), 37, np.uint8))
    assert flat == 0
    assert found(near_pairs(np.array([flat], np.uint64), np.array([flat], np.uint64))) == []


@pytest.mark.parametrize("limit", [0, 1, 4, 7])
def test_banding_finds_every_pair_that_comparing_all_finds_and_each_once(limit: int) -> None:
    random = np.random.default_rng(limit)
    a = random.integers(0, 2**64, 300, np.uint64)
    flips = np.array([sum(1 << int(bit) for bit in random.permutation(64)[: random.integers(0, 9)]) for _ in range(600)], np.uint64)
    b = np.concatenate([a[random.integers(0, 300, 600)] ^ flips, np.zeros(3, np.uint64)])
    pairs = found(near_pairs(a, b, limit))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == all_pairs(a, b, limit)


def test_a_hundred_thousand_equal_and_different_hashes_take_no_memory_for_all_pairs() -> None:
    hashes = np.random.default_rng(0).integers(1, 2**64, 100_000, np.uint64)
    assert sum(map(len, near_pairs(hashes[:50_000], hashes[50_000:]))) < 10


@pytest.mark.fault("L3")
def test_of_761_radiographs_no_two_patients_are_called_duplicates(radiographs: tuple[np.ndarray, np.ndarray]) -> None:
    images, patients = radiographs
    hashes = hashes_of(images)
    pairs = confirm_pairs(images, near_pairs(hashes, hashes))
    others = pairs[pairs[:, 0] < pairs[:, 1]]
    assert (pairs[:, 0] == pairs[:, 1]).sum() == 761
    assert (patients[others[:, 0]] == patients[others[:, 1]]).all()


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image[0]).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))[None]


def resized(image: np.ndarray, edge: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image[0]).resize((edge, edge), Image.Resampling.BILINEAR).resize((224, 224)))[None]


@pytest.mark.fault("L3")
@pytest.mark.parametrize(
    "copy",
    [lambda image: jpeg(image, 95), lambda image: jpeg(image, 50), lambda image: resized(image, 112), lambda image: resized(image, 448)],
    ids=["JPEG 95", "JPEG 50", "half the size", "twice the size"],
)
def test_re_encoded_and_resized_copies_are_found(radiographs: tuple[np.ndarray, np.ndarray], copy: Callable) -> None:
    images = radiographs[0][:150]
    both = np.concatenate([images, np.stack([copy(image) for image in images])])
    hashes = hashes_of(both)
    pairs = confirm_pairs(both, (block + np.array([0, 150]) for block in near_pairs(hashes[:150], hashes[150:])))
    assert (pairs[:, 1] - pairs[:, 0] == 150).sum() >= 149
    assert (pairs[:, 1] - pairs[:, 0] == 150).all()
