"""The support set Q: a ring of the latest unit embeddings, in which nearest neighbours are looked up (NNCLR, section 3.2).

Its rows, the place of the oldest row and the number of rows ever pushed are buffers: they are in every checkpoint. Rows are looked
up before the batch is pushed, or each sample would find itself; the training loop sees to that by pushing after the update.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class SupportSet(nn.Module):
    """A first-in-first-out ring of `size` unit rows of `width` numbers; starts with random unit vectors, as NNCLR's does."""

    rows: Tensor
    pushed: Tensor

    def __init__(self, size: int, width: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, width, generator=generator), dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def push(self, new: Float[Tensor, "n d"]) -> None:
        """Write `new` over the oldest rows; of more rows than fit, the last ones stay. Works for every n, a divisor of the size or not.

        Raises ValueError for rows that are not finite: one such row would be everybody's nearest neighbour.
        """
        if not torch.isfinite(new).all():
            raise ValueError("support set: the rows to be pushed are not finite; skip this step")
        size = len(self.rows)
        place = (self.pushed + torch.arange(len(new), device=new.device)) % size
        self.rows[place[-size:]] = F.normalize(new.detach().float(), dim=1)[-size:]
        self.pushed += len(new)

    def newest_first(self) -> Float[Tensor, "q d"]:
        """All rows, the one pushed last at the front."""
        size = len(self.rows)
        place = (self.pushed - 1 - torch.arange(size, device=self.rows.device)) % size
        return self.rows[place]


def nearest(z: Float[Tensor, "b d"], rows: Float[Tensor, "q d"], k: int = 1) -> Int[Tensor, "b k"]:
    """The k rows with the largest dot product with each z, best first: nearest in angle, as all are unit vectors."""
    return (z @ rows.T).topk(k, dim=1).indices
