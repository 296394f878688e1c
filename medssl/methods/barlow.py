"""Barlow Twins: the cross-correlation of two views' embeddings is trained towards the identity (Zbontar et al., ICML 2021, section 2.1).

    symbol     here      meaning
    f          encoder, projector
    z_A, z_B   z_a, z_b  embeddings of the two views
    C          C         their cross-correlation over the batch
    lambda     lambda_   weight of the redundancy, `redundancy` among the options

    C_ij = sum_b z_A_bi z_B_bj / ( sqrt(sum_b z_A_bi^2) sqrt(sum_b z_B_bj^2) ),     z centred over the batch (eq. 2)
    L    = sum_i (1 - C_ii)^2 + lambda sum_i sum_j!=i C_ij^2                        (eq. 1)

Nothing but the redundancy term keeps the embeddings from collapsing: no negatives, no target, no predictor. Defaults are the paper's
(section 2.2); the authors' code has lambda 0.0051. L is a sum over the dimensions: it and its gradients grow with `hidden`. AdamW does
not mind, nor LARS for weights; for biases and normalisation scales, which LARS does not adapt, the authors' code has a learning rate of
0.0048 where weights have 0.2.

Deviation: both views pass the projector in one batch, so its batch normalisation sees them together. In C each is centred and scaled by
itself, as in the paper, with the authors' 1e-5 added to the variance.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, gather, l2_normalize, mlp, no_autocast, to_float32
from medssl.types import Batch, Step

TITLE = "Barlow Twins"
USES_LABELS = False


class Config(PluginConfig):
    name: str = "barlow"
    redundancy: float = Field(
        default=0.005, ge=0, description="The weight lambda of the term against correlations between different dimensions."
    )
    hidden: int = Field(default=8192, ge=2, description="The width of all three layers of the projector, and of the embeddings.")


@no_autocast
def cross_correlation(z_a: Float[Tensor, "b d"], z_b: Float[Tensor, "b d"]) -> Float[Tensor, "d d"]:
    """C of eq. 2, in [-1, 1]."""
    a, b = (F.batch_norm(z, None, None, training=True) for z in (z_a, z_b))
    return a.T @ b / len(a)


def barlow_loss(z_a: Float[Tensor, "b d"], z_b: Float[Tensor, "b d"], lambda_: float) -> Float[Tensor, ""]:
    """L of eq. 1."""
    C = cross_correlation(z_a, z_b)
    on_diagonal = (1 - C.diagonal()).square().sum()
    off_diagonal = C.square().sum() - C.diagonal().square().sum()
    return on_diagonal + lambda_ * off_diagonal


class BarlowTwins(nn.Module):
    """Two views to the loss above."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.hidden, config.hidden], last_bias=False)

    def forward(self, batch: Batch) -> Step:
        z = self.projector(self.encoder(torch.cat(batch.views)))
        z_a, z_b = map(gather, to_float32(z).chunk(2))
        return Step(barlow_loss(z_a, z_b, self.config.redundancy), embeddings=(l2_normalize(z_a.detach()), l2_normalize(z_b.detach())))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing but the weights changes from step to step."""


def build(config: Config, encoder: Encoder) -> BarlowTwins:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return BarlowTwins(config, encoder)
