"""What losses share: full precision, rows of unit length, and InfoNCE (van den Oord et al. 2018, eq. 4)."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def no_autocast(function: Function) -> Function:
    """Decorator: switches autocast off inside a function of tensors. Autocast would take the product of two float32 matrices in bfloat16,
    whose error of 2^-9 becomes ten times larger when it is divided by a temperature of 0.1."""

    @wraps(function)
    def without_autocast(*tensors: Any, **options: Any) -> Any:
        with torch.autocast(next(x.device.type for x in tensors if isinstance(x, Tensor)), enabled=False):
            return function(*tensors, **options)

    without_autocast.no_autocast = True  # pyright: ignore[reportAttributeAccessIssue]
    return without_autocast  # pyright: ignore[reportReturnType]


def to_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x in float32 where autocast made it shorter; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def l2_normalize(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows scaled to length 1, in float32 or float64."""
    return F.normalize(to_float32(x), dim=1)


@no_autocast
def info_nce(
    u: Float[Tensor, "b d"],
    v: Float[Tensor, "b d"],
    tau: float,
    excluded: Bool[Tensor, "b b"] | None = None,
    same_view: Float[Tensor, "b d"] | None = None,
) -> Float[Tensor, ""]:
    r"""L = - 1/B sum_i log( exp(u_i v_i / tau) / sum_k exp(u_i v_k / tau) ): row i of `v` is the positive of row i of `u`, all other rows
    of `v` are its negatives, but for the pairs (i, k) that are `excluded`. Rows should have unit length; `tau` is the temperature.

    `same_view`: the embeddings of the view of `u`. Its rows k other than i are negatives, too, as in NT-Xent (Chen et al. 2020, eq. 1)."""
    logits = u @ v.T / tau
    if excluded is not None:
        logits = logits.masked_fill(excluded, -torch.inf)
    if same_view is not None:
        itself = torch.eye(len(u), dtype=torch.bool, device=u.device)
        masked = itself if excluded is None else itself | excluded
        logits = torch.cat([logits, (u @ same_view.T / tau).masked_fill(masked, -torch.inf)], dim=1)
    return F.cross_entropy(logits, torch.arange(len(u), device=u.device))
