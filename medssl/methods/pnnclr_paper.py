"""pNNCLR (authors' code): the method of `pnnclr.py` as its authors compute it (github.com/mb16biswas/pnnclr, commit 0b39f20).

Four cross-entropies, gradient through the interpolated neighbour, which is not a unit vector, alpha 0.95 from the first step, no noise, both views'
predictions pushed, the second half of the loss looking at a support set that already holds the first view's. Not copied: the support set of 10,000, where there are fewer images than twice that; the optimiser
applied three times a step, and both networks starting from ImageNet weights. For comparisons; `pnnclr` is the one to train with.
"""

from typing import Literal

from pydantic import Field

from medssl.methods import pnnclr
from medssl.nn import Encoder

TITLE = "pNNCLR (authors' code)"
USES_LABELS = False
fit_to = pnnclr.fit_to


class Config(pnnclr.Config):
    name: str = "pnnclr_paper"
    alpha: pnnclr.Share | tuple[pnnclr.Share, pnnclr.Share] = 0.95
    noise: float = Field(default=0.0, ge=0)
    delay: pnnclr.Share = 0.0
    ramp: pnnclr.Share = 0.0
    momentum: pnnclr.Share = 0.99
    stop_gradient: bool = False
    renormalise: bool = False
    push: Literal["targets", "predictions"] = "predictions"
    terms: Literal[1, 4] = 4


def build(config: Config, encoder: Encoder) -> pnnclr.PNNCLR:
    """The method around an encoder, see `pnnclr.build`."""
    return pnnclr.build(config, encoder)
