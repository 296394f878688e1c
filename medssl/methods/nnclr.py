"""NNCLR: nearest-neighbour contrastive learning (Dwibedi, Aytar, Tompson, Sermanet, Zisserman, ICCV 2021, section 3.2).

    symbol     here        meaning
    f, g, h    encoder, projector, predictor
    z          z1, z2      unit projections of the two views
    p          p1, p2      unit predictions, h(z)
    Q          support     the support set, unit projections of earlier views
    NN(z, Q)   nearest     the row of Q closest to z
    tau        temperature

    L_i = - log( exp(NN(z1_i, Q) p2_i / tau) / sum_k exp(NN(z1_i, Q) p2_k / tau) ),        made symmetric over the two views (eq. 3 and 4)

Q is looked up first; z1 is pushed once the step has been applied. No gradient enters Q. Defaults are the paper's (section 4.1),
except the widths and the size of Q, which belong to ImageNet there (2048-2048-256, 98,304).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn.encoder import Encoder
from medssl.nn.heads import mlp
from medssl.nn.losses import info_nce
from medssl.nn.support_set import SupportSet, nearest
from medssl.types import Batch, Step


class Config(PluginConfig):
    name: str = "nnclr"
    temperature: float = 0.1
    support_size: int = 4096
    hidden: int = 2048
    width: int = 256


def neighbour_of(z: Float[Tensor, "b d"], rows: Float[Tensor, "q d"]) -> Float[Tensor, "b d"]:
    """NN(z, Q)."""
    return rows[nearest(z, rows)[:, 0]]


class NNCLR(nn.Module):
    """Two views to the loss of eq. 3; `after_update` pushes z1."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.hidden, config.width], last_norm=True)
        self.predictor = mlp([config.width, config.hidden, config.width])
        self.support = SupportSet(config.support_size, config.width)
        self.tau = config.temperature

    def forward(self, batch: Batch) -> Step:
        z = self.projector(self.encoder(torch.cat(batch.views)))
        p1, p2 = F.normalize(self.predictor(z).float(), dim=1).chunk(2)
        z1, z2 = F.normalize(z.float(), dim=1).chunk(2)
        Q = self.support.rows
        loss = (info_nce(neighbour_of(z1, Q), p2, self.tau) + info_nce(neighbour_of(z2, Q), p1, self.tau)) / 2
        return Step(loss, {"embedding": z1.detach()}, push=z1.detach())

    def after_update(self, step: Step, progress: float) -> None:  # noqa: ARG002 - nothing here is scheduled
        assert step.push is not None
        self.support.push(step.push)


def build(config: Config, encoder: Encoder) -> NNCLR:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return NNCLR(config, encoder)
