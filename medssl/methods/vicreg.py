"""VICReg: one term each for variance, invariance and covariance of the embeddings (Bardes, Ponce, LeCun, ICLR 2022, section 4.1).

    symbol           here        meaning
    f, h             encoder, expander
    Z, Z'            Z1, Z2      embeddings of the two views, n rows of d numbers
    lambda, mu, nu   lambda_, mu, nu     weights, `invariance`, `variance` and `covariance` among the options
    gamma, eps       1, EPS      the standard deviation to be reached, 1e-4

    v(Z)     = 1/d sum_j max(0, gamma - sqrt(Var(z^j) + eps)),     z^j the column j of Z (eq. 1 and 2)
    c(Z)     = 1/d sum_i sum_j!=i C(Z)_ij^2,                       C(Z) the covariance matrix, over n - 1 (eq. 3 and 4)
    s(Z, Z') = 1/(n d) sum_i |z_i - z'_i|^2                        (eq. 5, Algorithm 1)
    L        = lambda s(Z, Z') + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z'))                                   (eq. 6)

Embeddings are neither normalised nor compared with other images: v keeps them apart, c keeps their dimensions from saying the same.
Defaults are the paper's (section 4.2).

Deviations: s is divided by d as in the paper's Algorithm 1 and the authors' code, not in its eq. 5. The authors' code, and lightly's,
halve the sum of the two v, which the paper does not: `variance` 12.5 gives their loss. Both views pass the expander in one batch, so its
batch normalisation sees them together.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, gather, l2_normalize, mlp, no_autocast, to_float32
from medssl.types import Batch, Step

TITLE = "VICReg"
USES_LABELS = False

EPS = 1e-4


class Config(PluginConfig):
    name: str = "vicreg"
    invariance: float = Field(default=25.0, ge=0, description="The weight of the distance between the two views.")
    variance: float = Field(default=25.0, ge=0, description="The weight of the term that keeps the spread of each dimension.")
    covariance: float = Field(default=1.0, ge=0, description="The weight of the term against correlations between dimensions.")
    hidden: int = Field(default=8192, ge=2, description="The width of all three layers of the projector, and of the embeddings.")


def v(Z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """How far the standard deviation of the columns falls short of 1."""
    return F.relu(1 - torch.sqrt(Z.var(dim=0) + EPS)).mean()


@no_autocast
def c(Z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The squares of all covariances between two columns, over d."""
    n, d = Z.shape
    centred = Z - Z.mean(dim=0)
    C = centred.T @ centred / (n - 1)
    return (C.square().sum() - C.diagonal().square().sum()) / d


def vicreg_loss(Z1: Float[Tensor, "n d"], Z2: Float[Tensor, "n d"], lambda_: float, mu: float, nu: float) -> Float[Tensor, ""]:
    """L of eq. 6."""
    return lambda_ * F.mse_loss(Z1, Z2) + mu * (v(Z1) + v(Z2)) + nu * (c(Z1) + c(Z2))


class VICReg(nn.Module):
    """Two views to the loss above."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.expander = mlp([encoder.num_features, config.hidden, config.hidden, config.hidden], last_bias=False)

    def forward(self, batch: Batch) -> Step:
        z = self.expander(self.encoder(torch.cat(batch.views)))
        Z1, Z2 = map(gather, to_float32(z).chunk(2))
        loss = vicreg_loss(Z1, Z2, self.config.invariance, self.config.variance, self.config.covariance)
        return Step(loss, embeddings=(l2_normalize(Z1.detach()), l2_normalize(Z2.detach())))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing but the weights changes from step to step."""


def build(config: Config, encoder: Encoder) -> VICReg:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return VICReg(config, encoder)
