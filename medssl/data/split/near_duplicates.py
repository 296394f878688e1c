"""Near duplicates: images that look the same but have different pixels, because they were encoded again, resized or made brighter.

The search has two steps. First, the hashes of `image_hash.dhash` must differ in at most 4 of 64 bits. The bits are divided into 5 groups:
if at most 4 bits differ, one group is equal, so only pairs with an equal group are compared. Second, the 32 x 32 thumbnails of the pair
must have a correlation (Pearson) of 0.98 or more.

Measured on 761 chest radiographs of 511 patients (NIH, 224 pixels): of 289 180 pairs, 598 differ in at most 4 bits. 587 of these are of
different patients; the correlation of their thumbnails is at most 0.958, so none counts as a duplicate. Of changed copies (JPEG quality 20,
50 and 95; half, double and a third of the size; gamma 0.9; 12 grey levels brighter) 99.8 % or more are found (correlation above 0.996); of
copies moved by 2 pixels, 45 %. At 28 pixels: among 5856 radiographs (PneumoniaMNIST) the 31 equal pairs and no other; among 780 ultrasound
images (BreastMNIST) 158 pairs, 84 of them between its official splits. Time on one core: 0.5 s for 100 000 random hashes with each other,
4 s for 80 000 hashes with 20 000 as similar as those of radiographs, 0.14 ms for a thumbnail of 224 pixels.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from medssl.data.image_hash import shrink, shrink_volume
from medssl.data.store import StoredVolumes

LIMIT = 4  # bits
CORRELATION = 0.98
_EDGE, _VOLUME_EDGES = 32, (10, 10, 10)  # of a thumbnail of an image in pixels, and of one of a volume in voxels
_PAIRS = 2_000_000  # of hashes that are compared at once, in some 100 MB
_CHUNK = 4096  # pairs of thumbnails that are compared at once


def near_pairs(a: np.ndarray, b: np.ndarray, limit: int = LIMIT) -> Iterator[Int[np.ndarray, "pairs 2"]]:
    """All pairs of hashes (uint64) that differ in at most `limit` bits, each once, as blocks of positions (in `a`, in `b`). Flat images
    (hash 0) are in no pair. The memory does not grow with the number of pairs that are compared."""
    masks = [np.uint64(sum(1 << bit for bit in range(band, 64, limit + 1))) for band in range(limit + 1)]
    for number, mask in enumerate(masks):
        order = np.argsort(b & mask, kind="stable")
        keys = (b & mask)[order]
        first, last = np.searchsorted(keys, a & mask, "left"), np.searchsorted(keys, a & mask, "right")
        counts = np.where(a == 0, 0, last - first)
        for rows in _blocks(counts):
            rows_a = np.repeat(rows, counts[rows])
            within = np.arange(len(rows_a)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
            rows_b = order[np.repeat(first[rows], counts[rows]) + within]
            differs = a[rows_a] ^ b[rows_b]
            close = (np.bitwise_count(differs) <= limit) & (b[rows_b] != 0)
            for earlier in masks[:number]:  # a pair with an equal earlier group of bits has been found before
                close &= (differs & earlier) != 0
            if close.any():
                yield np.stack([rows_a[close], rows_b[close]], axis=1)


def confirm_pairs(
    images: np.ndarray | StoredVolumes, blocks: Iterable[Int[np.ndarray, "pairs 2"]], correlation: float = CORRELATION
) -> Int[np.ndarray, "kept 2"]:
    """The pairs of rows of `images` [N, C, H, W] or [N, C, D, H, W] whose thumbnails have at least the `correlation`. Each image is read
    about once; at most 100 000 thumbnails of 1 kB are in memory."""
    thumbnail = lru_cache(maxsize=100_000)(lambda row: _thumbnail(images[row]))
    confirmed = [np.empty((0, 2), np.int64)]
    for pairs in filter(len, blocks):
        for chunk in np.split(pairs, range(_CHUNK, len(pairs), _CHUNK)):
            rows, positions = np.unique(chunk, return_inverse=True)
            rows_a, rows_b = positions.reshape(chunk.shape).T
            unit = _standardise(np.stack([thumbnail(row) for row in rows.tolist()]))
            confirmed.append(chunk[(unit[rows_a] * unit[rows_b]).sum(axis=1) >= correlation])
    return np.concatenate(confirmed)


def _thumbnail(image: np.ndarray) -> UInt8[np.ndarray, " cells"]:
    return (shrink(image, _EDGE, _EDGE) if image.ndim == 3 else shrink_volume(image, _VOLUME_EDGES)).ravel()


def _blocks(counts: Int[np.ndarray, " n"]) -> Iterator[Int[np.ndarray, " rows"]]:
    """The positions of `counts` that are not 0, in blocks of neighbours. The counts of a block have a sum of about _PAIRS."""
    used = np.flatnonzero(counts)
    block = np.cumsum(counts[used]) // _PAIRS
    yield from np.split(used, np.flatnonzero(np.diff(block)) + 1)


def _standardise(thumbnails: UInt8[np.ndarray, "n pixels"]) -> Float[np.ndarray, "n pixels"]:
    """The thumbnails with mean 0 and length 1: the product of two is their correlation. A thumbnail that varies by less than one grey level
    becomes 0."""
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True, dtype=np.float32)
    length, least = np.linalg.norm(centred, axis=1, keepdims=True), thumbnails.shape[1] ** 0.5
    return np.where(length > least, centred / np.maximum(length, least), 0)
