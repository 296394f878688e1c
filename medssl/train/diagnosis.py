"""The cause of a collapse: every few steps a few numbers are measured; from them follow the likely cause and what to change.

The bounds come from runs on PneumoniaMNIST of ten methods (narrow ResNet-18), of SimCLR with ResNet-18, ViT-Tiny and ConvNeXt, and of
nnclr and pnnclr with AdamW, SGD and LARS at 100 times a learning rate that works.

    number            healthy                                              rate times 100    bound
    feature_std       0.06 and more                                        0.001 to 1        0.001
    relative_update   below 0.16; 0.24 for 20 steps (ConvNeXt, rate 2e-3)  0.27 to 4         0.25

Two other numbers do not work. The growth of the weights: at 100 times the rate it was 2 to 3 with AdamW, but below 1 with SGD and LARS.
The spread of embeddings after a batch normalisation: it always stays at 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from medssl.train.monitor import embedding_rank, embedding_std
from medssl.types import Step

_ONE_GREY_VALUE = 1 / 255  # one grey value of 8 bits
_SMALLEST_FEATURE_STD = 1e-3
_LARGEST_UPDATE = 0.25
_DECAY = 0.9  # after a large update AdamW makes small ones for a thousand steps, but the weights are still ruined: remember it for a while
_SMALLEST_RANK = 2.0
_FEWEST_DIMENSIONS = 8  # with fewer images or fewer dimensions the rank says nothing
_VIEW_COUNT = 16
_EPSILON = 1e-12


@dataclass(frozen=True)
class CollapseMetrics:
    """The measured numbers; NaN if a number cannot be measured.

    `embedding_std`, `embedding_rank`: as in `monitor`. `feature_std`: standard deviation of the encoder's features over 16 views, divided
    by their length. `pixel_std`: standard deviation of a pixel between these views, in [0, 1]. `relative_update`: length of the change of
    the encoder's weights between two measurements, divided by the weights' length; the largest so far, which decays by a tenth each time.
    `gradient`: length of the encoder's gradient.
    """

    embedding_std: float
    embedding_rank: float
    feature_std: float
    pixel_std: float
    relative_update: float
    gradient: float
    lr: float


@dataclass(frozen=True)
class Cause:
    """A likely cause of a collapse. `name`: one or two words. `text`: what was measured, the likely cause, what to change."""

    name: str
    text: str


def diagnose(metrics: CollapseMetrics, collapse_std: float) -> Cause | None:
    """The likely cause of a collapse, None for a healthy run. Causes are tried in the order of the data flow, from the input to the
    embeddings. `collapse_std`: embeddings with a smaller standard deviation count as collapsed."""
    f = metrics
    if f.pixel_std < _ONE_GREY_VALUE:
        return Cause(
            "constant input",
            f"The views are all alike: a pixel differs between images by {f.pixel_std:.4f} of full white, less than one grey value. Look "
            "at views.png; then change data.window or views.recipe.",
        )
    if f.relative_update > _LARGEST_UPDATE:
        return Cause(
            "learning rate",
            f"The encoder's weights moved by {f.relative_update:.0%} of their length in a few steps (healthy: below 16%), so what the "
            f"encoder learns is lost again. The learning rate is too high, {f.lr:.3g} at this step: divide train.lr by 10 or more, or "
            "lengthen train.warmup_epochs.",
        )
    if f.feature_std < _SMALLEST_FEATURE_STD:
        stuck = "no gradient reaches its weights: they are dead" if f.gradient == 0 else f"its gradient has length {f.gradient:.2g}"
        return Cause(
            "constant encoder",
            f"The encoder's features are the same for different images: their standard deviation is {f.feature_std:.2g} of their length, "
            f"and {stuck}. Start again with a lower train.lr or another seed. If the backbone is your own, check its initial weights.",
        )
    if f.embedding_std < collapse_std:
        return Cause(
            "projector",
            f"The embeddings shrink to a point: their spread is {f.embedding_std:.3f}, where 1 is a sphere and 0 a point. The encoder's "
            f"features still differ (by {f.feature_std:.2g} of their length): it is the projector or the predictor that collapses. Lower "
            "train.lr, lengthen train.warmup_epochs, or strengthen what prevents a collapse: a larger batch for a method with negatives, a "
            "momentum nearer to 1 for a method with a target network.",
        )
    if f.embedding_rank < _SMALLEST_RANK:
        return Cause(
            "dimensions",
            f"The embeddings shrink to a line: they spread by {f.embedding_std:.2f}, but in {f.embedding_rank:.1f} directions only "
            "(dimensional collapse). Lower train.lr, raise train.batch_size, or see in views.png whether the views of an image differ.",
        )
    return None


class CollapseMonitor:
    """Measures the collapse metrics of a run. `views`: of one training batch, always the same. `check_rank`: whether embeddings should
    differ in many directions; the embeddings of a classifier with two classes need not."""

    def __init__(self, encoder: nn.Module, views: Shaped[Tensor, "b c *edges"], *, check_rank: bool = True) -> None:
        self._encoder, self._views, self._check_rank = encoder, views[:_VIEW_COUNT], check_rank
        self._previous_weights = [w.clone() for w in self._weights()]
        self._relative_update = 0.0
        scale = 255 if views.dtype == torch.uint8 else 1
        self._pixel_std = float(self._views.float().std(dim=0, correction=0).mean()) / scale

    @torch.no_grad()
    def __call__(self, step: Step, lr: float) -> CollapseMetrics:
        z = torch.full((1, 1), torch.nan) if step.embeddings is None else step.embeddings[0]
        has_rank = self._check_rank and min(len(z) - 1, z.shape[1]) >= _FEWEST_DIMENSIONS
        weights = self._weights()
        change = torch._foreach_sub(weights, self._previous_weights)
        torch._foreach_copy_(self._previous_weights, weights)
        self._relative_update = max(_norm(change) / max(_norm(weights), _EPSILON), _DECAY * self._relative_update)
        return CollapseMetrics(
            embedding_std=embedding_std(z),
            embedding_rank=embedding_rank(z) if has_rank else float("nan"),
            feature_std=self._feature_std(),
            pixel_std=self._pixel_std,
            relative_update=self._relative_update,
            gradient=_norm([p.grad for p in self._encoder.parameters() if p.grad is not None]),
            lr=lr,
        )

    def _weights(self) -> list[Tensor]:
        return [p.detach() for p in self._encoder.parameters() if p.ndim > 1]

    def _feature_std(self) -> float:
        training = self._encoder.training
        features = self._encoder.eval()(self._views).double()
        self._encoder.train(training)
        return float(features.std(dim=0, correction=0).norm() / features.square().sum(dim=1).mean().sqrt().clamp(min=_EPSILON))


def _norm(parts: Sequence[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(list(parts))).norm()) if parts else 0.0
