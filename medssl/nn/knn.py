"""The k nearest neighbours' vote, by cosine similarity (Wu et al., CVPR 2018, section 3.4)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

TEMPERATURE = 0.07
_BLOCK = 1024  # queries compared at once


def vote(
    bank: Float[Tensor, "n d"],
    targets: Float[Tensor, "n k"],
    query: Float[Tensor, "q d"],
    k: int,
    excluded: Bool[Tensor, "q n"] | None = None,
) -> Float[Tensor, "q k"]:
    """For each query the mean of the targets of its k nearest rows of the bank, weighted by exp(s / 0.07); float64.

    `targets` that are nan are not known and have no vote; nan where none of the k is known. `excluded`: pairs that may not meet.
    """
    b, known = F.normalize(bank.float(), dim=1), ~targets.isnan()
    found = []
    for start in range(0, len(query), _BLOCK):
        part = slice(start, start + _BLOCK)
        similarity = F.normalize(query[part].float(), dim=1) @ b.T
        if excluded is not None:
            similarity = similarity.masked_fill(excluded[part], -torch.inf)
        near, index = similarity.topk(min(k, len(b)), dim=1)
        weights = (near / TEMPERATURE).softmax(dim=1).double()[:, :, None] * known[index]
        found.append((weights * targets.double().nan_to_num()[index]).sum(dim=1) / weights.sum(dim=1))
    return torch.cat(found)
