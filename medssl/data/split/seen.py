"""Which rows of a store show what an encoder has seen in its pretraining, by the keyed hashes on the encoder's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

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
        return cls(np.isin(hashes["patient"], known["patients"]), np.isin(hashes["pixel_hash"], known["pixels"]))

    @property
    def rows(self) -> Bool[np.ndarray, " rows"]:
        """The rows that must not be tested."""
        return self.patient | self.pixels
