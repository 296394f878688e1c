"""pNNCLR: stochastic pseudo neighbourhoods for contrastive learning (Biswas, Buckchash, Prasad, arXiv 2308.06983).

    symbol     here            meaning
    p          p1, p2          unit predictions of the online network: encoder, projector, predictor
    t          t1, t2          unit projections of the target network, the online encoder's and projector's moving average
    Q          Q               the support set, unit rows
    nn(x)      hard neighbour  the row of Q closest to x (one of the `top_k` closest)
    alpha      alpha           step from x towards nn(x): a number, or a range from which each row draws its own
    sigma      noise           length of the random step on the sphere (radians, root mean square)
    pnn(x)     pseudo_neighbour
    tau, m     temperature, momentum

    pnn(x)  = unit( x + alpha (nn(x) - x) + sigma e ),      e a random direction
    L(a, b) = InfoNCE(pnn(b), a),                           a of one view, b of the other
    L       = ( L(p1, t2) + L(p2, t1) ) / 2

A hard neighbour that belongs to another class is a false positive; a point on the way to it is less of one, and another point every
time. Q is looked up first; t1 is pushed after the update, then the target follows: theta' <- m theta' + (1 - m) theta.

Deviations from the authors' code, each with a switch, all thrown in `pnnclr_paper.py`: no gradient flows through pseudo neighbours
(`stop_gradient`), they are unit vectors again (`renormalise`), target projections are pushed, not predictions (`push`), and L has the
one term of NNCLR's eq. 3 (`terms`), where theirs averages four: pnn(a) b', b pnn(a)', pnn(b) a', a pnn(b)'. With alpha 1, no noise
and m 0 this is NNCLR.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn.encoder import Encoder
from medssl.nn.heads import mlp
from medssl.nn.losses import info_nce
from medssl.nn.randomness import generator
from medssl.nn.support_set import SupportSet, nearest
from medssl.nn.target import momentum_at, target_of, update_target
from medssl.types import Batch, Step

Share = Annotated[float, Field(ge=0, le=1)]


class Config(PluginConfig):
    name: str = "pnnclr"
    alpha: Share | tuple[Share, Share] = (0.5, 1.0)
    noise: float = Field(default=0.1, ge=0)
    top_k: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.1, gt=0)
    momentum: Share = 0.99
    support_size: int = Field(default=4096, ge=1)
    hidden: int = Field(default=2048, ge=1)
    width: int = Field(default=256, ge=2)
    stop_gradient: bool = True
    renormalise: bool = True
    push: Literal["targets", "predictions"] = "targets"
    terms: Literal[1, 4] = 1


def pseudo_neighbour(x: Float[Tensor, "b d"], Q: Float[Tensor, "q d"], config: Config, random: torch.Generator) -> Float[Tensor, "b d"]:
    """pnn(x): sampled on the way from x to its hard nearest neighbour in Q, and scattered around it."""
    candidates = nearest(x, Q, config.top_k)
    if config.top_k > 1:
        pick = torch.randint(config.top_k, (len(x), 1), generator=random, device=x.device)
        candidates = candidates.gather(1, pick)
    nn_x = Q[candidates[:, 0]]
    low, high = config.alpha if isinstance(config.alpha, tuple) else (config.alpha, config.alpha)
    alpha = low + (high - low) * torch.rand(len(x), 1, generator=random, device=x.device, dtype=x.dtype) if high > low else low
    pnn = x + alpha * (nn_x - x)
    if config.noise > 0:
        e = torch.randn(x.shape, generator=random, device=x.device, dtype=x.dtype) / x.shape[1] ** 0.5
        pnn = pnn + config.noise * e
    return F.normalize(pnn, dim=1) if config.renormalise else pnn


def pair_loss(
    a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], Q: Float[Tensor, "q d"], config: Config, random: torch.Generator
) -> Float[Tensor, ""]:
    """L(a, b) of the module's head: `a` predictions of one view, `b` target projections of the other, both of unit length."""
    tau = config.temperature

    def pnn(x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        y = pseudo_neighbour(x, Q, config, random)
        return y.detach() if config.stop_gradient else y

    pnn_b = pnn(b)
    if config.terms == 1:
        return info_nce(pnn_b, a, tau)
    pnn_a = pnn(a)
    return (info_nce(pnn_a, b, tau) + info_nce(b, pnn_a, tau) + info_nce(pnn_b, a, tau) + info_nce(a, pnn_b, tau)) / 4


def pnnclr_loss(
    p1: Float[Tensor, "b d"],
    p2: Float[Tensor, "b d"],
    t1: Float[Tensor, "b d"],
    t2: Float[Tensor, "b d"],
    Q: Float[Tensor, "q d"],
    config: Config,
    random: torch.Generator,
) -> tuple[Float[Tensor, ""], Float[Tensor, "n d"]]:
    """L, and the rows to be pushed, oldest first. All inputs have unit length; `Q` holds the newest row first.

    Where predictions are pushed, the second half of the loss already sees p1 in Q, as the authors' code does.
    """
    predictions = config.push == "predictions"
    first = pair_loss(p1, t2, Q, config, random)
    Q_second = torch.cat([p1.detach(), Q])[: len(Q)] if predictions else Q
    second = pair_loss(p2, t1, Q_second, config, random)
    # A pushed block lies in Q with its first row in front; the ring writes oldest first, so each block is turned round.
    push = torch.cat([p1.flip(0), p2.flip(0)]) if predictions else t1
    return (first + second) / 2, push.detach()


class PNNCLR(nn.Module):
    """Online and target network, support set, and the loss above; `after_update` pushes and moves the target."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.hidden, config.width], last_norm=True)
        self.predictor = mlp([config.width, config.hidden, config.width])
        self.target_encoder = target_of(self.encoder)
        self.target_projector = target_of(self.projector)
        self.support = SupportSet(config.support_size, config.width)

    def forward(self, batch: Batch) -> Step:
        views = torch.cat(batch.views)
        p1, p2 = F.normalize(self.predictor(self.projector(self.encoder(views))).float(), dim=1).chunk(2)
        with torch.no_grad():
            t1, t2 = F.normalize(self.target_projector(self.target_encoder(views)).float(), dim=1).chunk(2)
        random = generator(p1.device, batch.seed, batch.step, "pseudo neighbours")
        loss, push = pnnclr_loss(p1, p2, t1, t2, self.support.newest_first(), self.config, random)
        return Step(loss, {"embedding": p1.detach()}, push=push)

    def after_update(self, step: Step, progress: float) -> None:
        assert step.push is not None
        self.support.push(step.push)
        m = momentum_at(progress, self.config.momentum)
        update_target(self.target_encoder, self.encoder, m)
        update_target(self.target_projector, self.projector, m)


def build(config: Config, encoder: Encoder) -> PNNCLR:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return PNNCLR(config, encoder)
