"""What losses share: full precision, rows of unit length, and InfoNCE (van den Oord et al. 2018, eq. 4)."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def exact(function: Function) -> Function:
    """A function of tensors, carried out in the precision of its arguments: under autocast the product of two float32 matrices would be
    taken in bfloat16, whose error of 2^-9 a temperature of 0.1 makes ten times larger."""

    @wraps(function)
    def precisely(*tensors: Any, **options: Any) -> Any:
        with torch.autocast(next(x.device.type for x in tensors if isinstance(x, Tensor)), enabled=False):
            return function(*tensors, **options)

    precisely.exact = True  # pyright: ignore[reportAttributeAccessIssue]
    return precisely  # pyright: ignore[reportReturnType]


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x in float32 where autocast gave less."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows scaled to length 1, in float32 at least."""
    return F.normalize(wide(x), dim=1)


@exact
def info_nce(
    u: Float[Tensor, "b d"], v: Float[Tensor, "b d"], tau: float, left_out: Bool[Tensor, "b b"] | None = None
) -> Float[Tensor, ""]:
    r"""L = - 1/B sum_i log( exp(u_i v_i / tau) / sum_k exp(u_i v_k / tau) ): row i of `v` is the positive of row i of `u`, all other rows
    of `v` are its negatives, but for the pairs (i, k) that are `left_out`. Rows should have unit length; `tau` is the temperature."""
    logits = u @ v.T / tau
    if left_out is not None:
        logits = logits.masked_fill(left_out, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(u), device=u.device))
