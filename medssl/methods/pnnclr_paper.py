"""pNNCLR (authors' code): the method of `pnnclr.py` as its authors compute it (github.com/mb16biswas/pnnclr, commit 0b39f20).

Four cross-entropies, gradient through the interpolated neighbour, which is not a unit vector, alpha 0.95 from the first step, no noise,
both views' predictions pushed, the second half of the loss looking at a support set that already holds the first view's. Not copied: the
optimiser applied three times a step, and both networks starting from ImageNet weights. The support set has their 10,000 rows where there
are twice as many images. For comparisons; `pnnclr` is the one to train with.
"""

from typing import Literal

from pydantic import Field

from medssl.methods import pnnclr
from medssl.nn import Encoder, MaskSamePatient, fit_support_size

TITLE = "pNNCLR (authors' code)"
USES_LABELS = False
_ROWS = 10_000


class Config(pnnclr.Config):
    name: str = "pnnclr_paper"
    alpha: pnnclr.Share | tuple[pnnclr.Share, pnnclr.Share] = 0.95
    noise: float = Field(default=0.0, ge=0)
    delay: pnnclr.Share = 0.0
    ramp: pnnclr.Share = 0.0
    momentum: pnnclr.Share | Literal["auto"] = 0.99
    base: Literal["auto", "simclr", "nnclr"] = "nnclr"
    renormalise: bool = False
    mask_same_patient: MaskSamePatient = False
    push: Literal["targets", "predictions"] = "predictions"
    terms: Literal[1, 4] = 4


def fit_to(config: Config, images: int, steps: int) -> pnnclr.Config:
    """As `pnnclr.fit_to`, with a support set of 10,000 rows at most."""
    fitted = pnnclr.fit_to(config, images, steps)
    return fitted.model_copy(update={"support_size": fit_support_size(images, _ROWS)}) if config.support_size == "auto" else fitted


def build(config: Config, encoder: Encoder) -> pnnclr.PNNCLR:
    """The method around an encoder, see `pnnclr.build`."""
    return pnnclr.build(config, encoder)
