"""The images most similar to one image: by the cosine of their features, one of each patient."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped


class Neighbour(NamedTuple):
    """`number`: of the image or volume that was searched, in the order of its features. `cosine`: of its features with the query's."""

    number: int
    cosine: float


def cosines(query: Float[np.ndarray, " d"], blocks: Iterable[Float[np.ndarray, "rows d"]]) -> Float[np.ndarray, " n"]:
    """The cosine of the query's features with each row of the blocks, in float64; one block is in memory at a time."""
    unit = _unit(query[None].astype(np.float64))[0]
    return np.concatenate([_unit(block.astype(np.float64)) @ unit for block in blocks])


def nearest(
    cosine: Float[np.ndarray, " n"], patients: Shaped[np.ndarray, " n"], left_out: Bool[np.ndarray, " n"], k: int
) -> list[Neighbour]:
    """At most `k` neighbours, the most similar first: of each patient the most similar image, and none of those `left_out`."""
    order = np.argsort(-cosine, kind="stable")
    order = order[~left_out[order]]
    firsts = np.sort(np.unique(patients[order], return_index=True)[1])[:k]
    return [Neighbour(int(number), float(cosine[number])) for number in order[firsts]]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
