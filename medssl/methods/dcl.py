"""DCL: decoupled contrastive learning (Yeh, Hong, Hsu, Liu, Chen, LeCun, ECCV 2022, section 3). SimCLR's network with another loss.

    symbol     here        meaning
    z(1), z(2) z1, z2      unit projections of the two views, B of each
    tau        tau         temperature
    U(i, k)                what repels view k of image i: both views of all other images
    w          w           weights of the positive pairs, 1 on average
    sigma      sigma       how much w differs; all weights are 1 where sigma is large

    U(i, k) = sum_{l = 1, 2; j != i} exp(z(k)_i z(l)_j / tau)
    L(i, k) = - w_i z(1)_i z(2)_i / tau + log U(i, k)                               (eq. 6: w = 1, the positive pair is not in U; eq. 7)
    w_i     = 2 - exp(z(1)_i z(2)_i / sigma) / mean_j exp(z(1)_j z(2)_j / sigma)    (`weighted`: DCLW, negative von Mises-Fisher)
    L       = the mean of L(i, k) over all i and k

In InfoNCE a positive pair that is already close takes the gradient from its own negatives, the more so the fewer they are; here it does
not, so small batches suffice. The weights pull distant positive pairs more than close ones. Other defaults are those of `simclr.py`.

Deviations: the paper sums over i and k, which is the learning rate's affair. It does not say whether gradient flows through w; here, as
in lightly's DCLWLoss, w is a constant: it says how strongly a pair is pulled, and is nothing to be learnt.
"""

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, MaskSamePatient, gather, l2_normalize, mlp, no_autocast, same_patient, tags_of
from medssl.types import Batch, Step

TITLE = "DCL"
USES_LABELS = False


class Config(PluginConfig):
    name: str = "dcl"
    temperature: float = Field(
        default=0.1, gt=0, description="The temperature of the loss: a lower one gives more weight to the most similar images."
    )
    weighted: bool = Field(default=False, description="Whether positive pairs have weights (DCLW).")
    sigma: float = Field(default=0.5, gt=0, description="The sharpness of these weights.")
    mask_same_patient: MaskSamePatient = None
    hidden: int = Field(default=2048, ge=1, description="The width of the hidden layer of the projector.")
    width: int = Field(default=128, ge=2, description="The width of the embeddings.")


def pair_weights(z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], sigma: float) -> Float[Tensor, " b"]:
    """w of the module's head, from 2 - B to 2, without gradient."""
    share = ((z1 * z2).sum(dim=1).detach() / sigma).softmax(dim=0)
    return 2 - len(z1) * share


@no_autocast
def dcl_loss(
    z1: Float[Tensor, "b d"],
    z2: Float[Tensor, "b d"],
    tau: float,
    w: Float[Tensor, " b"] | float = 1.0,
    excluded: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """L of the module's head for unit rows; `excluded`: images that are no negatives of each other, in whichever views.

    Minus infinity where an image has no negatives: there is nothing to learn from a batch of one patient.
    """
    z = torch.cat([z1, z2])
    itself = torch.eye(len(z1), dtype=torch.bool, device=z.device)
    masked = itself if excluded is None else itself | excluded
    logits = z @ z.T / tau
    log_U = logits.masked_fill(masked.repeat(2, 2), -torch.inf).logsumexp(dim=1)
    positive = (z1 * z2).sum(dim=1) / tau
    return log_U.mean() - (w * positive).mean()


class DCL(nn.Module):
    """Two views to the loss above."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.width], last_norm=True)

    def forward(self, batch: Batch) -> Step:
        z1, z2 = map(gather, l2_normalize(self.projector(self.encoder(torch.cat(batch.views)))).chunk(2))
        w = pair_weights(z1, z2, self.config.sigma) if self.config.weighted else 1.0
        excluded = same_patient(tags_of(batch)) if self.config.mask_same_patient else None
        loss = dcl_loss(z1, z2, self.config.temperature, w, excluded)
        return Step(loss, embeddings=(z1.detach(), z2.detach()))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing but the weights changes from step to step."""


def build(config: Config, encoder: Encoder) -> DCL:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return DCL(config, encoder)
