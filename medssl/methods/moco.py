"""MoCo: momentum contrast (v2: He et al., CVPR 2020, section 3, and arXiv 2003.04297; v3: Chen, Xie, He, ICCV 2021, section 3).

v2 has the head and the temperature of Chen, Fan, Girshick, He (2003.04297); v3 follows its algorithm 1.

    symbol       here          meaning
    f_q          encoder, projector (v3: and predictor)
    f_k          key_encoder, key_projector, the moving average of f_q
    q            q, q1, q2     unit queries, f_q(view)
    k            k, k1, k2     unit keys, f_k(view)
    queue        queue         the K latest keys of earlier batches
    tau, m, K    temperature, momentum, support_size

    v2   L = - 1/B sum_i log( exp(q_i k_i / tau) / (exp(q_i k_i / tau) + sum_{n in queue} exp(q_i n / tau)) ),    q of view 1, k of view 2
    v3   L = ctr(q1, k2) + ctr(q2, k1),  ctr(q, k) = - 2 tau/B sum_i log( exp(q_i k_i / tau) / sum_j exp(q_i k_j / tau) )
         theta_k <- m theta_k + (1 - m) theta_q        once the step has been applied; v2 then pushes its keys into the queue

No gradient enters f_k or the queue. m is constant in v2; in v3 it rises to 1 by a cosine. v2's projector has two layers without batch
normalisation; v3's has three and its predictor two, each with it. Widths, m and v2's temperature are the papers' (`PAPER`). v3's
temperature and its three layers are those of the authors' vision transformers, which they train with AdamW as here; for ResNet-50 and
LARS their code (facebookresearch/moco-v3) has 1.0 and two layers. K is 65,536 in the paper, a twentieth of ImageNet; it is smaller
here, for a queue longer than the data would hold each image's own earlier keys as its negatives.

Deviations: batch normalisation is over the whole batch of all devices, where v2 shuffles the keys between devices (section 3.3), so
that the number of devices changes nothing. Shuffling keeps a query from knowing its key by the statistics that they share; those of a
whole batch give less away than those of a device's few samples, but something. Where a network takes both views, they pass it in one
batch. A vision transformer's patch projection is trained, too, which v3 leaves at random for stability (section 4.2).
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import (
    Encoder,
    SupportSet,
    SupportSize,
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
from medssl.nn.negatives import match_patients, same_patient
from medssl.types import Batch, Rows, Step

TITLE = "MoCo"
USES_LABELS = False


class Config(PluginConfig):
    name: str = "moco"
    version: Literal["v2", "v3"] = Field(default="v2", description="The version of MoCo: v2 with a queue of negatives, or v3 without one.")
    temperature: float = Field(
        default=0.2, gt=0, description="The temperature of the loss: a lower one gives more weight to the most similar images."
    )
    momentum: float | None = Field(default=None, ge=0, le=1, description="The momentum of the key network; null is the version's own.")
    support_size: SupportSize = Field(
        default="auto", description="The number of earlier keys in the queue (v2); auto is half of the training images, at most 16,384."
    )
    symmetric: bool = Field(
        default=False, description="Whether the loss is averaged over both directions, with the keys of both views in the queue (v2)."
    )
    mask_same_patient: bool | None = Field(
        default=None,
        description="Whether other images of the same patient, and the image's own earlier keys, are left out of the negatives; null: they "
        "are where the images are slices of volumes, as neighbouring slices are nearly equal.",
    )
    hidden: int | None = Field(default=None, ge=1, description="The width of the hidden layers; null is the version's own.")
    width: int | None = Field(default=None, ge=2, description="The width of the embeddings; null is the version's own.")


class Settings(NamedTuple):
    """The options whose defaults differ between the versions."""

    momentum: float
    hidden: int
    width: int


PAPER = {"v2": Settings(momentum=0.999, hidden=2048, width=128), "v3": Settings(momentum=0.99, hidden=4096, width=256)}


def settings(config: Config) -> Settings:
    """What the configuration says, and its version's default where it says nothing."""
    given = {field: getattr(config, field) for field in Settings._fields}
    return PAPER[config.version]._replace(**{field: value for field, value in given.items() if value is not None})


@no_autocast
def queue_loss(
    q: Float[Tensor, "b d"], k: Float[Tensor, "b d"], queue: Float[Tensor, "n d"], tau: float, excluded: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, ""]:
    """L of v2 for unit rows; `excluded`: rows of the queue that are no negatives of a query."""
    negatives = q @ queue.T
    if excluded is not None:
        negatives = negatives.masked_fill(excluded, -torch.inf)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), negatives], dim=1) / tau
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


@no_autocast
def ctr(q: Float[Tensor, "b d"], k: Float[Tensor, "b d"], tau: float, excluded: Bool[Tensor, "b b"] | None = None) -> Float[Tensor, ""]:
    """v3's contrastive loss of one direction for unit rows. The factor keeps the gradient's size where tau is changed."""
    return 2 * tau * info_nce(q, k, tau, excluded)


class MoCoV2(nn.Module):
    """View 1 as queries, view 2 as keys, and the queue; `after_update` moves f_k and pushes the keys."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        _, hidden, width = settings(config)
        assert config.support_size != "auto", "methods.fit_to says what auto is"
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, hidden, width], norm=False)
        self.key_encoder = target_of(self.encoder)
        self.key_projector = target_of(self.projector)
        self.queue = SupportSet(config.support_size, width)

    def forward(self, batch: Batch) -> Step:
        x1, x2 = batch.views
        pairs = [(x1, x2), (x2, x1)] if self.config.symmetric else [(x1, x2)]
        queries, keys = map(torch.cat, zip(*pairs, strict=True))
        q = torch.cat([gather(x) for x in l2_normalize(self.projector(self.encoder(queries))).split(len(x1))])
        with torch.no_grad():
            k = torch.cat([gather(x) for x in l2_normalize(self.key_projector(self.key_encoder(keys))).split(len(x1))])
        tags = tags_of(batch)
        B, tags = len(tags), tags.repeat(len(pairs), 1)
        excluded = match_patients(tags, self.queue.tags) if self.config.mask_same_patient else None
        loss = queue_loss(q, k, self.queue.rows, self.config.temperature, excluded)
        return Step(loss, embeddings=(q[:B].detach(), k[:B]), push=Rows(k, tags))

    def after_update(self, step: Step, progress: float) -> None:  # noqa: ARG002 - nothing here is scheduled
        assert step.push is not None
        m = settings(self.config).momentum
        update_target(self.key_encoder, self.encoder, m)
        update_target(self.key_projector, self.projector, m)
        self.queue.push(step.push)


class MoCoV3(nn.Module):
    """Both views as queries and as keys, without a queue; `after_update` moves f_k."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        _, hidden, width = settings(config)
        self.config = config
        self.encoder = encoder
        self.projector = mlp([encoder.num_features, hidden, hidden, width], last_norm=True)
        self.predictor = mlp([width, hidden, width], last_norm=True)
        self.key_encoder = target_of(self.encoder)
        self.key_projector = target_of(self.projector)

    def forward(self, batch: Batch) -> Step:
        views = torch.cat(batch.views)
        q1, q2 = map(gather, l2_normalize(self.predictor(self.projector(self.encoder(views)))).chunk(2))
        with torch.no_grad():
            k1, k2 = map(gather, l2_normalize(self.key_projector(self.key_encoder(views))).chunk(2))
        excluded = same_patient(tags_of(batch)) if self.config.mask_same_patient else None
        tau = self.config.temperature
        loss = ctr(q1, k2, tau, excluded) + ctr(q2, k1, tau, excluded)
        return Step(loss, embeddings=(q1.detach(), q2.detach()))

    def after_update(self, step: Step, progress: float) -> None:  # noqa: ARG002 - the key network needs nothing of the step
        m = momentum_at(progress, settings(self.config).momentum)
        update_target(self.key_encoder, self.encoder, m)
        update_target(self.key_projector, self.projector, m)


def build(config: Config, encoder: Encoder) -> MoCoV2 | MoCoV3:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return MoCoV2(config, encoder) if config.version == "v2" else MoCoV3(config, encoder)
