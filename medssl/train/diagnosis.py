"""Why does a run collapse? A few facts are measured every few steps; from them the likely cause is named, with what to change.

Where the bounds come from: runs on PneumoniaMNIST of ten methods (narrow ResNet-18), of SimCLR with ResNet-18, ViT-Tiny and ConvNeXt, and
of nnclr and pnnclr with AdamW, SGD and LARS at 100 times a rate that works.

    fact           healthy                                              rate times 100    bound
    feature_std    0.06 and more                                        0.001 to 1        0.001
    turnover       below 0.16; 0.24 for 20 steps (ConvNeXt, rate 2e-3)  0.27 to 4         0.25

The growth of the weights does not tell: at 100 times the rate it was 2 to 3 with AdamW, below 1 with SGD and LARS. Nor does the spread of
embeddings behind a batch normalisation, which stays at 1 whatever happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from medssl.train.monitor import embedding_rank, embedding_std
from medssl.types import Step

_ALIKE = 1 / 255  # one grey value of 8 bits
_SAME_FEATURES = 1e-3
_TURNOVER = 0.25
_FADING = 0.9  # AdamW remembers large gradients for a thousand steps: weights that were torn away stand still, but are no better
_LINE = 2.0
_FEW = 8  # directions that batch and embedding must have for their number to say anything
_VIEWS = 16
_TINY = 1e-12


@dataclass(frozen=True)
class Facts:
    """What is measured; NaN where it cannot be.

    `embedding_std`, `embedding_rank`: as in `monitor`. `feature_std`: spread of the encoder's features over 16 views as a share of their
    length. `pixel_std`: standard deviation of a pixel between these views, in [0, 1]. `turnover`: how far the encoder's weights have
    moved between two looks, as a share of their length: the largest so far, fading by a tenth a look. `gradient`: length of the encoder's.
    """

    embedding_std: float
    embedding_rank: float
    feature_std: float
    pixel_std: float
    turnover: float
    gradient: float
    lr: float


@dataclass(frozen=True)
class Cause:
    """`name` tells one cause from another; `text`: what was measured, the likely cause, what to change."""

    name: str
    text: str


def diagnose(facts: Facts, collapse_std: float) -> Cause | None:
    """The likely cause of a collapse, the one nearest to the input first; None for a healthy run. `collapse_std`: bound of the
    embeddings' spread."""
    f = facts
    if f.pixel_std < _ALIKE:
        return Cause(
            "constant input",
            f"The views are all alike: a pixel differs between images by {f.pixel_std:.4f} of full white, less than one grey value. Look "
            "at views.png; then change what made them so, data.window or views.recipe.",
        )
    if f.turnover > _TURNOVER:
        return Cause(
            "learning rate",
            f"The encoder's weights moved by {f.turnover:.0%} of their length in a few steps (healthy: below 16%), so nothing that is "
            f"learnt stays. The learning rate is too high, {f.lr:.3g} at this step: divide train.lr by 10 or more, or lengthen "
            "train.warmup_epochs.",
        )
    if f.feature_std < _SAME_FEATURES:
        stuck = "no gradient reaches its weights: they are dead" if f.gradient == 0 else f"its gradient has length {f.gradient:.2g}"
        return Cause(
            "constant encoder",
            f"The encoder's features are the same for different images: they spread by {f.feature_std:.2g} of their length, and {stuck}. "
            "Start again with a lower train.lr or another seed; with an own backbone, see that its weights are initialised.",
        )
    if f.embedding_std < collapse_std:
        return Cause(
            "projector",
            f"The embeddings shrink to a point: their spread is {f.embedding_std:.3f}, where 1 is a sphere and 0 a point. The encoder's "
            f"features still differ (by {f.feature_std:.2g} of their length): it is the projector or the predictor that collapses. Lower "
            "train.lr, lengthen train.warmup_epochs, or strengthen what holds the method up: larger batches where there are negatives, a "
            "momentum nearer to 1 where there is a moving target.",
        )
    if f.embedding_rank < _LINE:
        return Cause(
            "dimensions",
            f"The embeddings shrink to a line: they spread by {f.embedding_std:.2f}, but in {f.embedding_rank:.1f} directions only "
            "(dimensional collapse). Lower train.lr, raise train.batch_size, or see in views.png whether the views of an image differ.",
        )
    return None


class Examination:
    """Measures the facts of a run. `views`: some of one training batch, always the same. `ranked`: whether embeddings should differ in
    many directions; those of a classifier of two classes need not."""

    def __init__(self, encoder: nn.Module, views: Shaped[Tensor, "b c h w"], *, ranked: bool = True) -> None:
        self._encoder, self._views, self._ranked = encoder, views[:_VIEWS], ranked
        self._weights = [p.detach() for p in encoder.parameters() if p.ndim > 1]
        self._before = [w.clone() for w in self._weights]
        self._turnover = 0.0
        scale = 255 if views.dtype == torch.uint8 else 1
        self._pixel_std = float(self._views.float().std(dim=0, correction=0).mean()) / scale

    @torch.no_grad()
    def __call__(self, step: Step, lr: float) -> Facts:
        z = torch.full((1, 1), torch.nan) if step.embeddings is None else step.embeddings[0]
        told = self._ranked and min(len(z) - 1, z.shape[1]) >= _FEW
        moved = torch._foreach_sub(self._weights, self._before)
        torch._foreach_copy_(self._before, self._weights)
        self._turnover = max(_length(moved) / max(_length(self._weights), _TINY), _FADING * self._turnover)
        return Facts(
            embedding_std=embedding_std(z),
            embedding_rank=embedding_rank(z) if told else float("nan"),
            feature_std=self._feature_std(),
            pixel_std=self._pixel_std,
            turnover=self._turnover,
            gradient=_length([p.grad for p in self._encoder.parameters() if p.grad is not None]),
            lr=lr,
        )

    def _feature_std(self) -> float:
        training = self._encoder.training
        features = self._encoder.eval()(self._views).double()
        self._encoder.train(training)
        return float(features.std(dim=0, correction=0).norm() / features.square().sum(dim=1).mean().sqrt().clamp(min=_TINY))


def _length(parts: Sequence[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(list(parts))).norm()) if parts else 0.0
