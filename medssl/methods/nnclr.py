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
from pydantic import Field
from torch import nn

from medssl.config import PluginConfig
from medssl.nn import (
    Encoder,
    MaskSamePatient,
    Neighbours,
    SupportSet,
    SupportSize,
    excluded_pairs,
    gather,
    info_nce,
    l2_normalize,
    mlp,
    tags_of,
)
from medssl.types import Batch, LookUp, Rows, Step

TITLE = "NNCLR"
USES_LABELS = False


class Config(PluginConfig):
    name: str = "nnclr"
    temperature: float = Field(
        default=0.1, gt=0, description="The temperature of the loss: a lower one gives more weight to the most similar images."
    )
    support_size: SupportSize = Field(
        default="auto",
        description="The number of earlier embeddings in the support set; auto is half of the training images, at most 16,384.",
    )
    neighbours: Neighbours = Field(
        default="any",
        description="Which embeddings can be a neighbour: any, other_images (not the image's own), other_patients, or same_patient "
        "(another image of the patient, where there is one).",
    )
    clusters: int = Field(
        default=0,
        ge=0,
        description="With K above 0 the support set has K clusters, and new rows replace the oldest of the largest cluster: rare images "
        "stay.",
    )
    mask_same_patient: MaskSamePatient = None
    cancel: int = Field(
        default=0,
        ge=0,
        description="How many of the most similar images of the batch are left out of the negatives, as they may be of the same class.",
    )
    hidden: int = Field(default=2048, ge=1, description="The width of the hidden layers of the projector and the predictor.")
    width: int = Field(default=256, ge=2, description="The width of the embeddings.")


class NNCLR(nn.Module):
    """Two views to the loss of eq. 3; `after_update` pushes z1."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        assert config.support_size != "auto", "methods.fit_to says what auto is"
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, config.hidden, config.hidden, config.width], last_norm=True)
        self.predictor = mlp([config.width, config.hidden, config.width])
        self.support = SupportSet(config.support_size, config.width, config.neighbours, config.clusters)

    def forward(self, batch: Batch) -> Step:
        z = self.projector(self.encoder(torch.cat(batch.views)))
        p1, p2 = map(gather, l2_normalize(self.predictor(z)).chunk(2))
        z1, z2 = map(gather, l2_normalize(z).detach().chunk(2))
        tags, Q, tau = tags_of(batch), self.support.rows, self.config.temperature
        index = self.support.nearest(z1, tags)[:, 0]
        nn1, nn2 = Q[index], Q[self.support.nearest(z2, tags)[:, 0]]
        excluded = excluded_pairs(tags, z1, z2, mask_same_patient=self.config.mask_same_patient, cancel=self.config.cancel)
        loss = (info_nce(nn1, p2, tau, excluded) + info_nce(nn2, p1, tau, excluded)) / 2
        found = LookUp(z1, nn1, nn1, index, tags, self.support.tags[index])
        return Step(loss, embeddings=(z1, z2), push=Rows(z1, tags), lookup=found)

    def after_update(self, step: Step, progress: float) -> None:  # noqa: ARG002 - nothing here is scheduled
        assert step.push is not None
        self.support.push(step.push)


def build(config: Config, encoder: Encoder) -> NNCLR:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return NNCLR(config, encoder)
