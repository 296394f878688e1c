"""Was the encoder pretrained on what it is tested on? And is there anything that it can be tested on?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medssl.data.split import Seen, class_shares, unsearchable
from medssl.errors import UserError
from medssl.evaluate.schema import LeakCheck

_ALLOW = "--set data.leaks=allow tests them all the same; the score is then too good, and the results say so"


def learnt_from_labels(card: Mapping[str, Any]) -> bool:
    """Whether pretraining used the labels of its images, as the encoder's card says; False where an earlier card says nothing of them."""
    return card.get("method", {}).get("uses_labels", False)


def refuse_leak(card: Mapping[str, Any], test_table: pd.DataFrame, site: str = "", allowed: bool = False) -> LeakCheck | None:
    """Refuse to test an encoder on what it was pretrained on; returns how many patients and images were compared, and how many images
    leaked: 0, unless leaks are `allowed`. None where the card cannot say all that pretraining saw (`unsearchable`).

    `site`: the name of the key with which the store of the table was made. Raises UserError with the number of test images found among
    those that pretraining saw.
    """
    seen, patients = Seen.by(card, test_table), test_table["patient"].to_numpy(str)
    leaked = int(seen.rows.sum())
    if leaked and not allowed:
        labels = ", with their labels" if learnt_from_labels(card) else ""
        official = "split" in test_table and "test" in test_table["split"].to_numpy(str)
        free = (
            "Take the split out of the data: then the test is drawn among the patients that the encoder has not seen. Or pretrain again on "
            "the data with this split, which leaves its test part out."
            if official
            else "Pretrain that encoder again on this data, which leaves the test patients out, or compare without it."
        )
        raise UserError(
            f"{leaked} of {len(test_table)} test images were seen in pretraining{labels}: {len(set(patients[seen.patient]))} patients "
            f"are the same, {int(seen.pixels.sum())} images have the same pixels. The score would be too good. {free} Or {_ALLOW}."
        )
    if unsearchable(card, test_table, site):
        return None
    return LeakCheck(patients=len(set(patients)), images=len(test_table), leaked=leaked)


def refuse_untestable(
    card: Mapping[str, Any], table: pd.DataFrame, columns: Sequence[str], roles: np.ndarray, name_files: Callable[[], str] = str
) -> None:
    """Raise UserError where the test lacks a class of the label columns `columns` because the encoder has seen the patients who have it.

    `roles`: of a split whose test was drawn among the unseen patients. The message says what to do, with the number of unseen patients
    without a label; `name_files` says where the files of these patients are named.
    """
    seen = Seen.by(card, table).rows
    missing = [share for share in class_shares(table, columns, roles) if share.patients > 1 and not share.tested]
    if not missing or not seen.any() or "test" in table["split"].to_numpy(str):
        return
    named = ", ".join(f"{share.value!r} of {share.column!r} ({share.patients} patients)" for share in missing[:5])
    labelled = (table[[f"label:{column}" for column in columns]].to_numpy(str) != "").any(axis=1)
    patients = table["patient"].to_numpy(str)
    unlabelled = set(patients[~seen]) - set(patients[seen | labelled])
    ways = []
    if unlabelled:
        ways.append(f"Label images of patients whom it has not seen: this data has {len(unlabelled)} without a label{name_files()}")
    ways += [
        f"{'or add' if ways else 'Add'} images of new patients with these labels",
        "or pretrain again now that the labels are there, which holds out test patients of every class",
        f"or {_ALLOW}",
    ]
    raise UserError(
        f"The test would lack {named}: the encoder has seen too many of these patients in pretraining, and a patient whom it has seen must "
        f"not be tested. {'; '.join(ways)}."
    )
