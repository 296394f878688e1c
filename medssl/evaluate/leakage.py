"""Was the encoder pretrained on what it is tested on?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import UserError
from medssl.evaluate.schema import LeakCheck

_HASH_LETTERS = 16


def learnt_from_labels(card: Mapping[str, Any]) -> bool:
    """Whether pretraining used the labels of its images, as the encoder's card says; False where an earlier card says nothing of them."""
    return card.get("method", {}).get("uses_labels", False)


def refuse_leak(card: Mapping[str, Any], test_table: pd.DataFrame, allowed: bool = False) -> LeakCheck:
    """Refuse to test an encoder on what it was pretrained on; returns how many patients and images were compared, and how many images
    leaked: 0, unless leaks are `allowed`.

    `card["pretraining"]` lists the first 16 hex letters of the patient keys and pixel hashes that pretraining saw. Raises UserError with
    the number of test images found among them.
    """
    seen = card["pretraining"]
    patients, pixels = (test_table[column].str[:_HASH_LETTERS].to_numpy(str) for column in ("patient", "pixel_hash"))
    same_patient, same_pixels = np.isin(patients, seen["patients"]), np.isin(pixels, seen["pixels"])
    leaked = int((same_patient | same_pixels).sum())
    if leaked and not allowed:
        labels = ", with their labels" if learnt_from_labels(card) else ""
        raise UserError(
            f"{leaked} of {len(test_table)} test images were seen in pretraining{labels}: {len(set(patients[same_patient]))} patients "
            f"are the same, {int(same_pixels.sum())} images have the same pixels. The score would be too good. Fine-tune with the data, "
            "the seed and the data.test_fraction of the pretraining run, or pretrain again without these patients."
        )
    return LeakCheck(patients=len(set(patients)), images=len(test_table), leaked=leaked)
