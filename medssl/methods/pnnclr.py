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
    r          share           from 0 to 1 over the training: how far neighbours are trusted by now (`delay`, `ramp`)

    pnn(x)  = l2_normalize( x + r (alpha (nn(x) - x) + sigma e) ),      e a random direction
    L(a, b) = InfoNCE(pnn(b), a),                           a of one view, b of the other
    L       = ( L(p1, t2) + L(p2, t1) ) / 2

A hard neighbour that belongs to another class is a false positive; a point on the way to it is less of one, and another point every
time. Q is looked up first; t1 is pushed after the update, then the target follows: theta' <- m theta' + (1 - m) theta.

With m 0 the target would be the online network itself. Trainings of fewer than 80,000 steps have no target network, and SimCLR as their
`base` in place of NNCLR: a projector of two layers, no predictor, so p and t are the same projections, and in InfoNCE the negatives of
both views (`simclr.py`, NT-Xent). Pseudo neighbours are then all that is not SimCLR.

Deviations from the authors' code, each with a switch, all thrown in `pnnclr_paper.py`: pseudo neighbours are unit vectors again
(`renormalise`), target projections are pushed, not predictions (`push`), L has the one term of NNCLR's eq. 3 (`terms`), where theirs
averages four: pnn(a) b', b pnn(a)', pnn(b) a', a pnn(b)'; and, as measured in docs/pnnclr.md, neighbours are trusted little by little
(`delay`, `ramp`), and most trainings have no target network (`momentum`) and the `base` SimCLR. As in their code, gradient flows through
pseudo neighbours to x (`stop_gradient`): without a target network both views are then drawn together and pushed away from the others.
With alpha 1 nothing of x is left in pnn(x): with no noise, no delay, m 0 and the base NNCLR this is NNCLR.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.methods import nnclr
from medssl.nn import (
    Encoder,
    SupportSet,
    excluded_pairs,
    gather,
    info_nce,
    l2_normalize,
    mlp,
    momentum_at,
    no_autocast,
    tags_of,
    target_of,
    update_target,
)
from medssl.nn.copies import to_device
from medssl.nn.gather import devices
from medssl.nn.randomness import generator
from medssl.nn.support_set import Preview
from medssl.types import Batch, LookUp, Rows, Step

TITLE = "pNNCLR"
USES_LABELS = False

Share = Annotated[float, Field(ge=0, le=1)]


class Config(nnclr.Config):
    """NNCLR's settings, and those of pseudo neighbours and the target network."""

    name: str = "pnnclr"
    alpha: Share | tuple[Share, Share] = Field(
        default=(0.5, 1.0), description="How far a pseudo neighbour lies on the way to the neighbour, from 0 to 1: a number, or a range."
    )
    noise: float = Field(default=0.1, ge=0, description="The length of its random step on the sphere, in radians.")
    top_k: int = Field(default=1, ge=1, description="The neighbour is one of so many nearest embeddings.")
    delay: Share = Field(default=0.5, description="The share of the training before neighbours are used.")
    ramp: Share = Field(default=0.5, description="The share of the training over which they then gain their full influence.")
    momentum: Share | Literal["auto"] = Field(
        default="auto", description="The momentum of the target network; 0 is no target network, auto chooses by the number of steps."
    )
    base: Literal["auto", "simclr", "nnclr"] = Field(
        default="auto",
        description="Whose heads and negatives the method has: simclr is a projector of two layers and the negatives of both views, nnclr "
        "a projector of three layers, a predictor and the negatives of the other view; auto takes nnclr where there is a target network.",
    )
    stop_gradient: bool = Field(default=False, description="Whether the gradient stops at pseudo neighbours.")
    renormalise: bool = Field(default=True, description="Whether pseudo neighbours get length 1 again.")
    push: Literal["targets", "predictions"] = Field(
        default="targets", description="What the support set holds: projections of the target network, or predictions."
    )
    terms: Literal[1, 4] = Field(
        default=1, description="The number of terms of the loss that are averaged: 1 as in NNCLR, 4 as in the authors' code."
    )

    @model_validator(mode="after")
    def _simclr_has_no_target_network_and_one_term(self) -> "Config":
        if self.terms == 4 and self.base == "simclr":
            raise ValueError("method.terms=4, the loss of the authors' code, needs method.base=nnclr")
        if self.momentum not in ("auto", 0) and self.base == "simclr":
            raise ValueError("a target network (method.momentum above 0) needs method.base=nnclr: with SimCLR's heads it learns little")
        return self


Tags = Int[Tensor, "b 4"]
TARGET_FROM = 80_000  # steps from which "auto" takes a target network


def fit_to(config: Config, images: int, steps: int) -> Config:  # noqa: ARG001 - the support set's size is `methods.fit_to`'s
    """The configuration with a number for `momentum` and a name for `base`, for a training of so many `steps`.

    The target network's random start keeps the weight m^steps: in 80 steps with m 0.99 it is most of the target. In 3,000 steps with m
    0.993 the encoder still is clearly worse than without a target (docs/pnnclr.md). Longer trainings were not measured. From 80,000 steps
    on, where lightly's benchmarks have NNCLR ahead of SimCLR, there is a target as in the paper, and m is 1 - 20 / steps.
    """
    without = steps < TARGET_FROM or config.base == "simclr"
    m = (0.0 if without else 1 - 20 / steps) if config.momentum == "auto" else config.momentum
    base = ("nnclr" if m or config.terms == 4 else "simclr") if config.base == "auto" else config.base
    return config.model_copy(update={"momentum": m, "base": base})


def share_at(progress: Float[Tensor, ""], config: Config) -> Float[Tensor, ""]:
    """r: 0 during `delay`, then in a straight line to 1 over `ramp`. `progress` of the training, from 0 to 1."""
    passed = progress - config.delay
    return (passed / config.ramp).clamp(0, 1) if config.ramp else (passed >= 0).to(progress.dtype)


class Drawn(NamedTuple):
    """The random numbers of one look-up: which of the `top_k` neighbours, the place of alpha in its range from 0 to 1, and the direction of
    the noise. None where the configuration needs none."""

    pick: Int[Tensor, "b 1"] | None
    alpha: Float[Tensor, "b 1"] | None
    direction: Float[Tensor, "b d"] | None


def draw(config: Config, random: torch.Generator, shape: tuple[int, int], like: Tensor) -> tuple[Drawn, ...]:
    """The numbers of all look-ups of a step, in their order, for embeddings of this shape, with the type and on the device of `like`."""
    n, d = shape
    low, high = alpha_range(config)

    def one() -> Drawn:
        pick = torch.randint(config.top_k, (n, 1), generator=random) if config.top_k > 1 else None
        alpha = torch.rand(n, 1, generator=random, dtype=like.dtype) if high > low else None
        direction = torch.randn(n, d, generator=random, dtype=like.dtype) if config.noise > 0 else None
        return Drawn(*(None if x is None else to_device(x, like.device) for x in (pick, alpha, direction)))

    return tuple(one() for _ in range(2 if config.terms == 1 else 4))


def alpha_range(config: Config) -> tuple[float, float]:
    """The range of alpha; both ends are the same where it is a number."""
    return config.alpha if isinstance(config.alpha, tuple) else (config.alpha, config.alpha)


def pseudo_neighbour(
    x: Float[Tensor, "b d"], tags: Tags, Q: SupportSet | Preview, config: Config, drawn: Drawn, share: float | Tensor = 1.0
) -> LookUp:
    """pnn(x): sampled on the way from x to its hard nearest neighbour in Q, and scattered around it. `tags`: of x; `share`: r."""
    index = Q.nearest(x, tags, config.top_k)
    index = (index if drawn.pick is None else index.gather(1, drawn.pick))[:, 0]
    nn_x = Q.rows[index]
    low, high = alpha_range(config)
    alpha = low + (high - low) * (0 if drawn.alpha is None else drawn.alpha)
    way = alpha * (nn_x - x)
    if drawn.direction is not None:
        way = way + config.noise * (drawn.direction / x.shape[1] ** 0.5)
    pnn = x + share * way
    pnn = l2_normalize(pnn) if config.renormalise else pnn
    return LookUp(x, nn_x, pnn, index, tags, Q.tags[index])


@no_autocast
def pair_loss(
    a: Float[Tensor, "b d"],
    b: Float[Tensor, "b d"],
    tags: Tags,
    Q: SupportSet | Preview,
    config: Config,
    drawn: Sequence[Drawn],
    excluded: Bool[Tensor, "b b"] | None = None,
    share: float | Tensor = 1.0,
) -> tuple[Float[Tensor, ""], LookUp]:
    """L(a, b) of the module's head, and what stood for b: `a` are predictions of one view, `b` target projections of the other, both of
    unit length; `drawn`: for the look-up of b, and with four terms of a; `excluded`: pairs that are no negatives."""
    tau = config.temperature

    def pnn(x: Float[Tensor, "b d"], drawn: Drawn) -> tuple[Float[Tensor, "b d"], LookUp]:
        found = pseudo_neighbour(x, tags, Q, config, drawn, share)
        return (found.pnn.detach() if config.stop_gradient else found.pnn), found

    pnn_b, found = pnn(b, drawn[0])
    if config.terms == 1:
        return info_nce(pnn_b, a, tau, excluded, same_view=b if config.base == "simclr" else None), found
    pnn_a, _ = pnn(a, drawn[1])
    pairs = ((pnn_a, b), (b, pnn_a), (pnn_b, a), (a, pnn_b))
    return torch.stack([info_nce(u, v, tau, excluded) for u, v in pairs]).mean(), found


@no_autocast
def pnnclr_loss(
    p1: Float[Tensor, "b d"],
    p2: Float[Tensor, "b d"],
    t1: Float[Tensor, "b d"],
    t2: Float[Tensor, "b d"],
    tags: Tags,
    Q: SupportSet,
    config: Config,
    drawn: Sequence[Drawn],
    share: float | Tensor = 1.0,
) -> Step:
    """L, the rows to be pushed, oldest first, and what was found for t2. All embeddings have unit length; `drawn`: as of `draw`.

    Where predictions are pushed, the second half of the loss already sees p1 in Q, as the authors' code does.
    """
    excluded = excluded_pairs(tags, t1, t2, mask_same_patient=config.mask_same_patient, cancel=config.cancel)
    half = len(drawn) // 2
    first, found = pair_loss(p1, t2, tags, Q, config, drawn[:half], excluded, share)
    push, seen = Rows(t1.detach(), tags), Q
    if config.push == "predictions":
        # The authors' queue has a block's first row in front, and rows are pushed oldest first: each block is turned round.
        turned = [Rows(p.detach().flip(0), tags.flip(0)) for p in (p1, p2)]
        seen = Q.preview(turned[0])
        push = Rows(*(torch.cat(parts) for parts in ([r.values for r in turned], [r.tags for r in turned])))
    second, _ = pair_loss(p2, t1, tags, seen, config, drawn[half:], excluded, share)
    return Step((first + second) / 2, embeddings=(p1.detach(), p2.detach()), push=push, lookup=found)


class PNNCLR(nn.Module):
    """Online and target network, support set, and the loss above; `after_update` pushes and moves the target. `progress` of the training,
    from 0 to 1, is in every checkpoint."""

    progress: Tensor

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        assert config.support_size != "auto" and config.momentum != "auto" and config.base != "auto", "methods.fit_to says what auto is"
        self.config, self.momentum = config, config.momentum
        self.encoder = encoder
        simclr = config.base == "simclr"
        self.projector = mlp([encoder.num_features, *[config.hidden] * (1 if simclr else 2), config.width], last_norm=True)
        self.predictor = nn.Identity() if simclr else mlp([config.width, config.hidden, config.width])
        if self.momentum:
            self.target_encoder = target_of(self.encoder)
            self.target_projector = target_of(self.projector)
        self.support = SupportSet(config.support_size, config.width, config.neighbours, config.clusters)
        self.register_buffer("progress", torch.zeros(()))

    def forward(self, batch: Batch) -> Step:
        views = torch.cat(batch.views)
        z = self.projector(self.encoder(views))
        p1, p2 = map(gather, l2_normalize(self.predictor(z)).chunk(2))
        t = self.target(views) if self.momentum else z
        t1, t2 = map(gather, l2_normalize(t).chunk(2))
        drawn = self.draw(batch) if batch.drawn is None else batch.drawn
        share = share_at(self.progress, self.config)
        return pnnclr_loss(p1, p2, t1, t2, tags_of(batch), self.support, self.config, drawn, share)

    def draw(self, batch: Batch) -> tuple[Drawn, ...]:
        """The random numbers of the batch of all devices: functions of its seed and step alone."""
        random = generator(batch.seed, batch.step, "pseudo neighbours")
        return draw(self.config, random, (devices() * len(batch.rows), self.config.width), self.support.rows)

    @torch.no_grad()
    def target(self, views: Tensor) -> Tensor:
        """Projections [n, d] of the target network, without gradient."""
        return self.target_projector(self.target_encoder(views))

    def after_update(self, step: Step, progress: float) -> None:
        assert step.push is not None
        self.support.push(step.push)
        self.progress.fill_(progress)
        if self.momentum:
            m = momentum_at(progress, self.momentum)
            update_target(self.target_encoder, self.encoder, m)
            update_target(self.target_projector, self.projector, m)


def build(config: Config, encoder: Encoder) -> PNNCLR:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return PNNCLR(config, encoder)
