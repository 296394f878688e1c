"""SimCLR: a simple framework for contrastive learning (Chen, Kornblith, Norouzi, Hinton, ICML 2020, section 2.1).

    symbol     here        meaning
    f, g       encoder, projector
    z          z1, z2      unit projections of the two views, B of each
    tau        tau         temperature
    l(i, j)                loss of the positive pair (i, j) among all 2 B projections

    l(i, j) = - log( exp(z_i z_j / tau) / sum_{k != i} exp(z_i z_k / tau) )         (eq. 1: NT-Xent, 2 B - 2 negatives, of both views)
    L       = the mean of l(i, j) over the 2 B pairs, (i, j) and (j, i)             (algorithm 1)

Defaults are the paper's: temperature 0.1 (section 5.1, table 5), a projector of two layers that ends in 128 numbers (section 2.3). In the
authors' code (google-research/simclr, `projection_head`) its hidden layer is as wide as ResNet-50's features, 2048, and both layers end
in batch normalisation; the last one has a scale there, and none here.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, MaskSamePatient, gather, l2_normalize, mlp, no_autocast, same_patient, tags_of
from medssl.types import Batch, Step

TITLE = "SimCLR"
USES_LABELS = False


class Config(PluginConfig):
    name: str = "simclr"
    temperature: float = Field(
        default=0.1, gt=0, description="The temperature of the loss: a lower one gives more weight to the most similar images."
    )
    mask_same_patient: MaskSamePatient = None
    hidden: int = Field(default=2048, ge=1, description="The width of the hidden layer of the projector.")
    width: int = Field(default=128, ge=2, description="The width of the embeddings.")


@no_autocast
def nt_xent(
    z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], tau: float, excluded: Bool[Tensor, "b b"] | None = None
) -> Float[Tensor, ""]:
    """L of the module's head for unit rows; `excluded`: images that are no negatives of each other, in whichever views."""
    z = torch.cat([z1, z2])
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    masked = itself if excluded is None else itself | excluded.repeat(2, 2)
    logits = (z @ z.T / tau).masked_fill(masked, -torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, positive)


class SimCLR(nn.Module):
    """Two views to the loss above."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.width], last_norm=True)

    def forward(self, batch: Batch) -> Step:
        z1, z2 = map(gather, l2_normalize(self.projector(self.encoder(torch.cat(batch.views)))).chunk(2))
        excluded = same_patient(tags_of(batch)) if self.config.mask_same_patient else None
        loss = nt_xent(z1, z2, self.config.temperature, excluded)
        return Step(loss, embeddings=(z1.detach(), z2.detach()))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing but the weights changes from step to step."""


def build(config: Config, encoder: Encoder) -> SimCLR:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return SimCLR(config, encoder)
