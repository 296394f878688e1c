"""Images that look the same though their pixels differ: encoded again, resized, a little brighter.

The search has two steps. The hashes of `image_hash.dhash` must differ in at most 4 of 64 bits. Such pairs are found by the pigeonhole
principle: of 5 groups of bits at least one is equal. Then the 32x32 thumbnails of a pair must correlate (Pearson) by 0.98 or more.

Measured on 761 chest radiographs of 511 patients (NIH, 224 pixels): of 289 180 pairs 598 lie within 4 bits, 587 of them of different
patients, whose thumbnails correlate by 0.958 at most: none is called a duplicate. Of copies, JPEG at quality 20, 50 and 95, half, double
and a third of the size, gamma 0.9 and 12 grey levels more, 99.8 % or more are found (correlation above 0.996); moved by 2 pixels, 45 %. At
28 pixels: of 5856 radiographs (PneumoniaMNIST) the 31 equal pairs and no other, of 780 ultrasound images (BreastMNIST) 158 pairs, 84 of
them across its official splits. 100 000 random hashes against each other take 0.5 s on one core, 80 000 against 20 000 that lie as close as
radiographs do 4 s, and a thumbnail of 224 pixels 0.14 ms.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from medssl.data.image_hash import shrink

LIMIT = 4
CORRELATION = 0.98
_EDGE = 32
_PAIRS = 2_000_000  # compared at once: some 100 MB
_CHUNK = 4096


def near_pairs(a: np.ndarray, b: np.ndarray, limit: int = LIMIT) -> Iterator[Int[np.ndarray, "pairs 2"]]:
    """Blocks of the positions (in a, in b) of all hashes (uint64) that differ in at most `limit` bits, each pair once. Flat images
    (hash 0) are like nothing. Memory does not grow with the number of pairs compared."""
    masks = [np.uint64(sum(1 << bit for bit in range(band, 64, limit + 1))) for band in range(limit + 1)]
    for number, mask in enumerate(masks):
        order = np.argsort(b & mask, kind="stable")
        keys = (b & mask)[order]
        first, last = np.searchsorted(keys, a & mask, "left"), np.searchsorted(keys, a & mask, "right")
        counts = np.where(a == 0, 0, last - first)
        for rows in _blocks(counts):
            left = np.repeat(rows, counts[rows])
            within = np.arange(len(left)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
            right = order[np.repeat(first[rows], counts[rows]) + within]
            differs = a[left] ^ b[right]
            close = (np.bitwise_count(differs) <= limit) & (b[right] != 0)
            for earlier in masks[:number]:  # found in that group of bits already
                close &= (differs & earlier) != 0
            if close.any():
                yield np.stack([left[close], right[close]], axis=1)


def confirm_pairs(
    images: np.ndarray, blocks: Iterable[Int[np.ndarray, "pairs 2"]], correlation: float = CORRELATION
) -> Int[np.ndarray, "kept 2"]:
    """Those pairs of rows of `images` [N, C, H, W] whose thumbnails correlate by at least `correlation`. Reads each image about once,
    and keeps 100 000 thumbnails of 1 kB at most."""
    thumbnail = lru_cache(maxsize=100_000)(lambda row: shrink(images[row], _EDGE, _EDGE).ravel())
    kept = [np.empty((0, 2), np.int64)]
    for pairs in filter(len, blocks):
        for some in np.split(pairs, range(_CHUNK, len(pairs), _CHUNK)):
            rows, places = np.unique(some, return_inverse=True)
            left, right = places.reshape(some.shape).T
            unit = _standardise(np.stack([thumbnail(row) for row in rows.tolist()]))
            kept.append(some[(unit[left] * unit[right]).sum(axis=1) >= correlation])
    return np.concatenate(kept)


def _blocks(counts: Int[np.ndarray, " n"]) -> Iterator[Int[np.ndarray, " rows"]]:
    """Positions in runs whose counts add up to little more than _PAIRS, those of count 0 left out."""
    used = np.flatnonzero(counts)
    block = np.cumsum(counts[used]) // _PAIRS
    yield from np.split(used, np.flatnonzero(np.diff(block)) + 1)


def _standardise(thumbnails: UInt8[np.ndarray, "n pixels"]) -> Float[np.ndarray, "n pixels"]:
    """Mean 0 and length 1, so that a product is a correlation; zeros for what varies by less than a grey level."""
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True, dtype=np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > _EDGE, centred / np.maximum(length, _EDGE), 0)
