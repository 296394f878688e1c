"""BYOL: bootstrap your own latent (Grill et al., NeurIPS 2020, section 3.1).

    symbol     here                                  meaning
    f, g, q    encoder, projector, predictor         the online network, weights theta
    f', g'     target_encoder, target_projector      the target network, weights xi
    z, q(z)    z1, z2 and q1, q2                     unit projections of the two views, and their predictions
    z'         t1, t2                                unit projections of the target network
    tau        momentum                              share of xi that stays

    L  = (2 - 2 <q(z1), z2'>) + (2 - 2 <q(z2), z1'>)      (eq. 2 both ways, the mean over the batch)
    xi <- tau xi + (1 - tau) theta                        (eq. 1; tau rises to 1, section 3.3)

No gradient enters the target. Nothing pushes images apart: what keeps the embeddings from collapsing is the predictor, and a target
that follows slowly. Defaults are the paper's (section 3.3).

Deviation: both views pass each network in one batch, so batch normalisation sees them together.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, gather, l2_normalize, mlp, momentum_at, target_of, update_target
from medssl.types import Batch, Step

TITLE = "BYOL"
USES_LABELS = False


class Config(PluginConfig):
    name: str = "byol"
    momentum: float = Field(
        default=0.996, ge=0, le=1, description="The momentum of the target network at the start of the training; it rises to 1."
    )
    hidden: int = Field(default=4096, ge=1, description="The width of the hidden layers of the projector and the predictor.")
    width: int = Field(default=256, ge=2, description="The width of the embeddings.")


def byol_loss(q1: Float[Tensor, "b d"], q2: Float[Tensor, "b d"], t1: Float[Tensor, "b d"], t2: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """L of the module's head for unit rows: 0 where predictions meet their targets, 8 where they are opposite."""

    def distance(q: Float[Tensor, "b d"], t: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        return 2 - 2 * (q * t).sum(dim=1).mean()

    return distance(q1, t2) + distance(q2, t1)


class BYOL(nn.Module):
    """Online and target network, and the loss above; `after_update` moves the target."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.width])
        self.predictor = mlp([config.width, config.hidden, config.width])
        self.target_encoder = target_of(self.encoder)
        self.target_projector = target_of(self.projector)

    def forward(self, batch: Batch) -> Step:
        views = torch.cat(batch.views)
        z = self.projector(self.encoder(views))
        q1, q2 = map(gather, l2_normalize(self.predictor(z)).chunk(2))
        with torch.no_grad():
            z1, z2 = map(gather, l2_normalize(z).chunk(2))
            t1, t2 = map(gather, l2_normalize(self.target_projector(self.target_encoder(views))).chunk(2))
        return Step(byol_loss(q1, q2, t1, t2), embeddings=(z1, z2))

    def after_update(self, step: Step, progress: float) -> None:  # noqa: ARG002 - the target needs nothing of the step
        tau = momentum_at(progress, self.config.momentum)
        update_target(self.target_encoder, self.encoder, tau)
        update_target(self.target_projector, self.projector, tau)


def build(config: Config, encoder: Encoder) -> BYOL:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return BYOL(config, encoder)
