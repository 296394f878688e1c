"""InfoNCE, the loss that contrastive methods share (van den Oord et al. 2018, eq. 4)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def info_nce(u: Float[Tensor, "b d"], v: Float[Tensor, "b d"], tau: float) -> Float[Tensor, ""]:
    r"""L = - 1/B sum_i log( exp(u_i v_i / tau) / sum_k exp(u_i v_k / tau) ): row i of `v` is the positive of row i of `u`, all other rows
    of `v` are its negatives. Rows should have unit length; `tau` is the temperature."""
    logits = u @ v.T / tau
    return F.cross_entropy(logits, torch.arange(len(u), device=u.device))
