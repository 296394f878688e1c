"""SimSiam: a Siamese network with a predictor and a stop-gradient (Chen and He, CVPR 2021, section 3, Algorithm 1).

    symbol     here         meaning
    f          encoder, projector
    h          predictor
    z          z1, z2       unit projections of the two views
    p          p1, p2       unit predictions, h(z)

    D(p, z) = - <p, stopgrad(z)>                        the mean over the batch
    L       = D(p1, z2) / 2 + D(p2, z1) / 2             (eq. 1 to 4)

BYOL without a moving average: without the stop-gradient, or without the predictor, the embeddings collapse (sections 4.1 and 4.2).
The projector's hidden layers and its output are `hidden` wide, the output normalised over the batch, too; the predictor narrows to
`bottleneck` (section 3, "Baseline settings"). The paper's widths are the defaults.

Deviations: both views pass each network in one batch, so batch normalisation sees them together, and the predictor's learning rate
follows that of all weights (section 4.2 finds a constant one slightly better).
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, gather, l2_normalize, mlp
from medssl.types import Batch, Step

TITLE = "SimSiam"
USES_LABELS = False


class Config(PluginConfig):
    name: str = "simsiam"
    hidden: int = Field(default=2048, ge=2, description="The width of the layers of the projector, and of the embeddings.")
    bottleneck: int = Field(default=512, ge=1, description="The width of the hidden layer of the predictor.")


def simsiam_loss(
    p1: Float[Tensor, "b d"], p2: Float[Tensor, "b d"], z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """L of the module's head for unit rows, from -1 (all equal) to 1. Gradient flows through the predictions only."""

    def d(p: Float[Tensor, "b d"], z: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        return -(p * z.detach()).sum(dim=1).mean()

    return (d(p1, z2) + d(p2, z1)) / 2


class SimSiam(nn.Module):
    """Two views to the loss above."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.hidden, config.hidden], last_norm=True)
        self.predictor = mlp([config.hidden, config.bottleneck, config.hidden])

    def forward(self, batch: Batch) -> Step:
        z = self.projector(self.encoder(torch.cat(batch.views)))
        p1, p2 = map(gather, l2_normalize(self.predictor(z)).chunk(2))
        z1, z2 = map(gather, l2_normalize(z).chunk(2))
        return Step(simsiam_loss(p1, p2, z1, z2), embeddings=(z1.detach(), z2.detach()))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing but the weights changes from step to step."""


def build(config: Config, encoder: Encoder) -> SimSiam:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return SimSiam(config, encoder)
