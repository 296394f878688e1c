"""A Bloom filter (Bloom, Communications of the ACM 13(7), 1970): answers whether a text is in a set, and does not list the set.

    symbol   here      meaning
    n        count     the texts of the set
    p        RATE      the share of other texts that are found by mistake, 1e-6
    m        bits      -n ln p / (ln 2)^2
    k        rounds    m / n ln 2 = -log2 p, about 20

A text sets k bits of m: its SHAKE128 (FIPS 202) is read as k numbers of 64 bits, each modulo m. A text of the set is always found.
"""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

RATE = 1e-6
_LEAST_BITS = 64


def build(texts: Iterable[str]) -> dict[str, Any]:
    """The filter of the texts, as JSON can represent it: `count`, `bits`, `rounds`, and `filter`, the bits in base64."""
    known = sorted(set(texts))
    bits = max(_LEAST_BITS, math.ceil(-len(known) * math.log(RATE) / math.log(2) ** 2))
    rounds = round(-math.log2(RATE))
    found = np.zeros(bits, bool)
    found[_places(known, bits, rounds)] = True
    return {"count": len(known), "bits": bits, "rounds": rounds, "filter": base64.b64encode(np.packbits(found).tobytes()).decode()}


def contains(bloom: Mapping[str, Any], texts: Iterable[str]) -> Bool[np.ndarray, " texts"]:
    """Whether each of the texts is in the set."""
    found = np.unpackbits(np.frombuffer(base64.b64decode(bloom["filter"]), np.uint8), count=bloom["bits"]).astype(bool)
    return found[_places(list(texts), bloom["bits"], bloom["rounds"])].all(axis=1)


def _places(texts: list[str], bits: int, rounds: int) -> np.ndarray:
    """[texts, rounds]: the bits of each text."""
    digests = b"".join(hashlib.shake_128(text.encode()).digest(8 * rounds) for text in texts)
    return (np.frombuffer(digests, "<u8").reshape(len(texts), rounds) % np.uint64(bits)).astype(np.int64)
