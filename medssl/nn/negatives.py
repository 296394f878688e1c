"""Which pairs are no negatives, whatever the batch says: images of one patient, and likely false negatives."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from medssl.nn.losses import no_autocast
from medssl.nn.support_set import PATIENT, match_tags

MaskSamePatient = Annotated[  # of a method's configuration
    bool | None,
    Field(
        description="Whether other images of the same patient in the batch are left out of the negatives; null: they are where the images "
        "are slices of volumes, as neighbouring slices are nearly equal."
    ),
]


def match_patients(tags: Int[Tensor, "b 4"], others: Int[Tensor, "n 4"]) -> Bool[Tensor, "b n"]:
    """True where i and k are images of one patient who is known, or one image."""
    return match_tags(tags[:, None], others, PATIENT)


def same_patient(tags: Int[Tensor, "b 4"]) -> Bool[Tensor, "b b"]:
    """True where i and k are two images of one patient; an image with itself is a pair of views, not such a pair."""
    return match_patients(tags, tags) & ~torch.eye(len(tags), dtype=torch.bool, device=tags.device)


@no_autocast
def likely_false_negatives(z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], number: int) -> Bool[Tensor, "b b"]:
    """For each image i the `number` other images k that look most like it, by z1_i z2_k + z2_i z1_k over the unit rows of both views:
    false-negative cancellation by elimination (Huynh et al., WACV 2022, section 3.2)."""
    with torch.no_grad():
        alike = z1 @ z2.T
        alike = (alike + alike.T).fill_diagonal_(-torch.inf)
        chosen = alike.topk(min(number, len(z1) - 2), dim=1).indices
        return torch.zeros_like(alike, dtype=torch.bool).scatter_(1, chosen, value=True)


def excluded_pairs(
    tags: Int[Tensor, "b 4"], z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], *, mask_same_patient: bool | None, cancel: int
) -> Bool[Tensor, "b b"] | None:
    """The pairs that are no negatives, None for none: those of one patient, and `cancel` likely false negatives for each image."""
    pairs = same_patient(tags) if mask_same_patient else None
    if cancel:
        false = likely_false_negatives(z1, z2, cancel)
        pairs = false if pairs is None else pairs | false
    return pairs
