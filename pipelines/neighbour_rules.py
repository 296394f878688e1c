"""pNNCLR with other rules for its neighbours: what docs/pnnclr.md tried and did not keep.

    cp pipelines/neighbour_rules.py medssl/methods/
    python pipelines/compare_pretraining.py pipelines/neighbour_rules.yaml

Plug-ins are files of medssl, so this one is a method only while it lies there. Symbols as in medssl/methods/pnnclr.py.

    rule       the positive of t
    nearest    pnn(t), as in pnnclr
    mutual     pnn(t) where no other image of the batch is closer to nn(t) than t is; elsewhere t itself (r = 0)
    several    on the way from t to the mean of its 4 nearest rows of Q
    agreement  pnn(t) with r times the cosine of the neighbours of both views, at least 0: neighbours count where both views find alike ones
    weak_view  on the way from t to the row of Q closest to the projection of a third view, a crop of 0.8 and more of the image's area; Q
               holds the projections of third views

With `trusted` below 1, only so many of the batch's images, those most similar to their neighbours, get one; the others keep t itself.
`own` is the weight of a second term, in which t itself is the positive.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.methods import pnnclr
from medssl.methods.pnnclr import Drawn, alpha_range
from medssl.nn import Encoder, freeze_running_statistics, info_nce, l2_normalize, no_autocast
from medssl.nn.support_set import tags_of
from medssl.types import Batch, LocalViews, LookUp, Rows, Step
from medssl.views.operations import PositiveShareRange

TITLE = "pNNCLR with other rules"
USES_LABELS = False
_SEVERAL = 4


class Config(pnnclr.Config):
    """pNNCLR's settings, and what is tried."""

    name: str = "neighbour_rules"
    rule: Literal["nearest", "mutual", "several", "agreement", "weak_view"] = Field(
        default="nearest", description="The rule for neighbours."
    )
    trusted: float = Field(default=1.0, gt=0, le=1, description="The share of the images of a batch that get a neighbour.")
    own: float = Field(default=0.0, ge=0, le=1, description="The weight of the loss with the other view itself as the positive.")
    crop_area: PositiveShareRange = Field(
        default=(0.3, 1.0), description="With the rule weak_view the crops of the two other views, which are to be those of the recipe."
    )


fit_to = pnnclr.fit_to


@no_autocast
def is_mutual(near: Tensor, asked: Tensor) -> Tensor:
    """[b, 1]: whether each row of `asked` is the closest of all to its own row of `near`."""
    return ((near @ asked.T).argmax(dim=1) == torch.arange(len(near), device=near.device))[:, None]


@no_autocast
def are_similar(near: Tensor, asked: Tensor, trusted: float) -> Tensor:
    """[b, 1]: whether the cosine of a row of `asked` and its row of `near` is among the largest, of which `trusted` is the share."""
    cosine = F.cosine_similarity(near, asked)
    return (cosine >= cosine.quantile(1 - trusted))[:, None]


class NeighbourRules(pnnclr.PNNCLR):
    """pNNCLR with the rules above, on one device and without a target network."""

    config: Config

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        assert not self.momentum
        if config.rule == "weak_view":
            self.local_views = LocalViews(1, 1.0, (0.8, 1.0), config.crop_area)

    def forward(self, batch: Batch) -> Step:
        config, Q, tags, share = self.config, self.support, tags_of(batch), pnnclr.share_at(self.progress, self.config)
        z = self.projector(self.encoder(torch.cat(batch.views[:2])))
        p1, p2 = l2_normalize(self.predictor(z)).chunk(2)
        t1, t2 = l2_normalize(z).chunk(2)
        asked = [self._weak(batch.views[2])] * 2 if config.rule == "weak_view" else [t2, t1]
        found = [Q.nearest(t, tags, _SEVERAL if config.rule == "several" else 1) for t in asked]
        near = [Q.rows[index].mean(dim=1) for index in found]
        r = [share.expand(len(t1), 1)] * 2
        if config.rule == "mutual":
            r = [share * is_mutual(n, t.detach()) for n, t in zip(near, (t2, t1), strict=True)]
        if config.rule == "agreement":
            r = [share * F.cosine_similarity(near[0], near[1]).clamp(min=0)[:, None]] * 2
        if config.trusted < 1:
            r = [each * are_similar(n, t.detach(), config.trusted) for each, n, t in zip(r, near, asked, strict=True)]
        pnn2, pnn1 = (self._pnn(*each) for each in zip((t2, t1), near, r, self.draw(batch), strict=True))
        of_views = [t2, t1] if config.base == "simclr" else [None, None]

        def loss_of(positives: tuple[Tensor, Tensor]) -> Tensor:
            pairs = zip(positives, (p1, p2), of_views, strict=True)
            return torch.stack([info_nce(positive, p, config.temperature, same_view=t) for positive, p, t in pairs]).mean()

        loss = loss_of((pnn2, pnn1))
        if config.own:
            loss = (1 - config.own) * loss + config.own * loss_of((t2, t1))
        index = found[0][:, 0]
        lookup = LookUp(t2.detach(), Q.rows[index], pnn2.detach(), index, tags, Q.tags[index])
        return Step(loss, embeddings=(p1.detach(), p2.detach()), push=Rows(asked[1].detach(), tags), lookup=lookup)

    @torch.no_grad()
    def _weak(self, views: Tensor) -> Tensor:
        with freeze_running_statistics(self):
            return l2_normalize(self.projector(self.encoder(views)))

    def _pnn(self, t: Tensor, near: Tensor, r: Tensor, drawn: Drawn) -> Tensor:
        low, high = alpha_range(self.config)
        assert drawn.alpha is not None
        assert drawn.direction is not None
        way = (low + (high - low) * drawn.alpha) * (near - t) + self.config.noise * drawn.direction / t.shape[1] ** 0.5
        return l2_normalize(t + r * way)


def build(config: Config, encoder: Encoder) -> NeighbourRules:
    """The method around an encoder."""
    return NeighbourRules(config, encoder)
