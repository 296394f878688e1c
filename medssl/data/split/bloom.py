"""A Bloom filter (Bloom, Communications of the ACM 13(7), 1970): answers whether a text is in a set, and does not list the set.

    symbol   here      meaning
    n        count     the texts of the set
    p        RATE      the share of other texts that are found by mistake, 1e-6
    m        bits      -n ln p / (ln 2)^2
    k        rounds    m / n ln 2

A text sets k bits of m. The bits are at (a + i b) mod m for i < k, where a and b come from the text's SHA-256 (Kirsch and Mitzenmacher,
2006). A text of the set is always found.
"""

import base64
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

RATE = 1e-6


def build(texts: Iterable[str]) -> dict[str, Any]:
    """The filter of the texts, as JSON can represent it: `count`, `bits`, `rounds`, and `filter`, the bits in base64."""
    known = sorted(set(texts))
    bits = max(64, math.ceil(-len(known) * math.log(RATE) / math.log(2) ** 2))
    rounds = max(1, round(bits / max(1, len(known)) * math.log(2))) if known else 1
    rounds = min(rounds, round(-math.log2(RATE)))  # a handful of texts has more bits than the formula needs
    found = np.zeros(bits, bool)
    for places in _places(known, bits, rounds):
        found[places] = True
    return {"count": len(known), "bits": bits, "rounds": rounds, "filter": base64.b64encode(np.packbits(found).tobytes()).decode()}


def contains(bloom: Mapping[str, Any], texts: Iterable[str]) -> Bool[np.ndarray, " texts"]:
    """Whether each of the texts is in the set."""
    wanted, bits, rounds = list(texts), int(bloom["bits"]), int(bloom["rounds"])
    found = np.unpackbits(np.frombuffer(base64.b64decode(bloom["filter"]), np.uint8), count=bits).astype(bool)
    result = np.ones(len(wanted), bool)
    for places in _places(wanted, bits, rounds):
        result &= found[places]
    return result


def _places(texts: list[str], bits: int, rounds: int) -> Iterator[np.ndarray]:
    """In each round the place of each text."""
    digests = b"".join(hashlib.sha256(text.encode()).digest()[:16] for text in texts)
    a, b = np.frombuffer(digests, "<u8").reshape(-1, 2).T
    for number in range(rounds):
        yield ((a + np.uint64(number) * (b | np.uint64(1))) % np.uint64(bits)).astype(np.int64)
