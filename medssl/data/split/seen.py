"""Which rows of a store show what an encoder has seen in its pretraining, by the keyed hashes on the encoder's card.

`card["pretraining"]` has an entry for `patients` and one for `pixels`. Each is a list of hashes. Of an exported encoder it is a Bloom
filter of them (`bloom.build`), or only their number: {"count": n}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medssl.data.split import bloom

HASH_LETTERS = 16  # of a patient's key or a pixel hash that a card lists


@dataclass(frozen=True)
class Seen:
    """For each row of a store's table whether pretraining has seen its patient (`patient`), and whether it has seen its pixels, be it under
    another patient (`pixels`)."""

    patient: Bool[np.ndarray, " rows"]
    pixels: Bool[np.ndarray, " rows"]

    @classmethod
    def by(cls, card: Mapping[str, Any], table: pd.DataFrame) -> Seen:
        """What the encoder of that card has seen of the rows of `table`."""
        hashes = {name: table[name].str[:HASH_LETTERS].to_numpy(str) for name in ("patient", "pixel_hash")}
        known = card["pretraining"]
        return cls(_contains(known["patients"], hashes["patient"]), _contains(known["pixels"], hashes["pixel_hash"]))

    @property
    def rows(self) -> Bool[np.ndarray, " rows"]:
        """The rows that must not be tested."""
        return self.patient | self.pixels


def seen_counts(card: Mapping[str, Any]) -> dict[str, int]:
    """How many `patients` and `pixels` (images with different pixels) pretraining has seen."""
    return {name: entry["count"] if isinstance(entry, Mapping) else len(entry) for name, entry in card["pretraining"].items()}


def has_hashes(card: Mapping[str, Any]) -> bool:
    """Whether the card can say which patients and images pretraining has seen. An encoder exported without hashes cannot."""
    return all(not isinstance(entry, Mapping) or "filter" in entry for entry in card["pretraining"].values())


def _contains(entry: Any, hashes: np.ndarray) -> np.ndarray:
    if not isinstance(entry, Mapping):
        return np.isin(hashes, entry)
    return bloom.contains(entry, hashes) if "filter" in entry else np.zeros(len(hashes), bool)
