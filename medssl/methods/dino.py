"""DINO: self-distillation with no labels (Caron et al., ICCV 2021, section 3.1, Algorithm 1).

    symbol         here                           meaning
    g_s            encoder, head, prototypes      the student
    g_t            teacher_...                    its moving average
    s, t           s, t                           outputs [views, B, K] of student and teacher: cosines to K prototypes
    C              centre                         moving average of the teacher's mean output, over so many `updates`
    tau_s, tau_t   temperature, tau_t             temperatures; tau_t rises from the first to the second `teacher_temperature`
    lambda, m      momentum, centre_momentum

    P_t = softmax((t - C) / tau_t),    P_s = softmax(s / tau_s)               (eq. 1; no gradient enters P_t)
    L   = - mean over pairs of different views of  sum_k P_t log P_s          (eq. 3)
    C   <- m C + (1 - m) mean(t),    g_t <- lambda g_t + (1 - lambda) g_s     (eq. 4; lambda rises to 1)

The teacher sees the two whole views, the student these and the local crops: a part has to tell what the whole shows. Centring keeps
one prototype from winning everywhere, a low tau_t keeps all from winning alike; either alone collapses (section 5.3).

Deviations. 4096 prototypes, where the paper has 65,536 for the 1.3 million images of ImageNet; 6 local crops, as SwAV, where the authors'
code has 8. Of that code's two safeguards of the prototypes, a fixed length and no gradient in the first epoch, the first is here.
C is the plain mean of the first batches until the moving average has that many, and the head is normalised over the batch (`head_norm`;
off, it is the paper's for networks without batch norm, as ViT). A short training needs both: 60 steps of 64 images of PneumoniaMNIST,
ResNet-18 of quarter width, ended with an embedding_std of 0.51; without the first 0.14, without the second 0.03, without either 0.02.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, gather, l2_normalize, mlp, momentum_at, no_autocast, target_of, update_target
from medssl.types import Batch, LocalViews, Step
from medssl.views.operations import PositiveShareRange, Share

TITLE = "DINO"
USES_LABELS = False

Temperature = Annotated[float, Field(gt=0)]


class Config(PluginConfig):
    name: str = "dino"
    temperature: Temperature = Field(default=0.1, description="The temperature of the student.")
    teacher_temperature: tuple[Temperature, Temperature] = Field(
        default=(0.04, 0.07), description="The temperature of the teacher at the start, and after its warm-up."
    )
    teacher_warmup: Share = Field(default=0.1, description="The share of the training in which the teacher's temperature rises.")
    momentum: Share = Field(default=0.996, description="The momentum of the teacher at the start of the training; it rises to 1.")
    centre_momentum: Share = Field(default=0.9, description="The momentum of the centre of the teacher's outputs.")
    local_crops: int = Field(
        default=6, ge=0, description="The number of small views of each image; with 0 there are only the two whole views."
    )
    local_edge: float = Field(default=96 / 224, gt=0, le=1, description="The edge of a small view, as a share of a whole view's edge.")
    local_area: PositiveShareRange = Field(
        default=(0.05, 0.4), description="The range of the share of the image's area that a small view shows."
    )
    whole_area: PositiveShareRange = Field(
        default=(0.4, 1.0), description="The range of that share for a whole view; without small views that of the recipe is used."
    )
    head_norm: bool = Field(default=True, description="Whether the head has batch normalisation.")
    hidden: int = Field(default=2048, ge=1, description="The width of the hidden layers of the head.")
    bottleneck: int = Field(default=256, ge=2, description="The width of the layer before the prototypes.")
    prototypes: int = Field(default=4096, ge=2, description="The number of prototypes, which are the outputs of the head.")


@no_autocast
def dino_loss(
    s: Float[Tensor, "views b k"], t: Float[Tensor, "whole b k"], centre: Float[Tensor, " k"], tau_s: float, tau_t: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """L of the module's head; view i of `t` is view i of `s`."""
    P_t = ((t.detach() - centre) / tau_t).softmax(dim=-1)
    log_P_s = (s / tau_s).log_softmax(dim=-1)
    H = -torch.einsum("tbk,sbk->ts", P_t, log_P_s) / s.shape[1]
    return (H.sum() - H.diagonal().sum()) / (H.numel() - len(H))


def tau_t_at(progress: float, temperatures: tuple[float, float], warmup: float) -> float:
    """A straight line from the first temperature to the second, reached at progress `warmup`."""
    first, second = temperatures
    return first + (second - first) * progress / warmup if progress < warmup else second


class Prototypes(nn.Module):
    """Cosines of unit rows to K prototypes: a weight-normalised layer without bias, its gain fixed at 1."""

    def __init__(self, number: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(l2_normalize(torch.randn(number, width)))

    @no_autocast
    def forward(self, y: Float[Tensor, "views b d"]) -> Float[Tensor, "views b k"]:
        return F.linear(y, l2_normalize(self.rows))


def embed(encoder: nn.Module, head: nn.Module, views: tuple[Tensor, ...]) -> Float[Tensor, "views b d"]:
    """The unit rows that meet the prototypes, of all devices. Views of one size pass encoder and head together."""
    rows = torch.cat([l2_normalize(head(encoder(torch.cat(group)))) for group in (views[:2], views[2:]) if group])
    return torch.stack([gather(y) for y in rows.chunk(len(views))])


class DINO(nn.Module):
    """Student, teacher and the loss above; `after_update` moves the teacher, its centre and its temperature."""

    centre: Tensor
    updates: Tensor
    tau_t: Tensor

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.local_views = LocalViews(config.local_crops, config.local_edge, config.local_area, config.whole_area)
        self.encoder = encoder
        self.head = mlp([encoder.num_features, config.hidden, config.hidden, config.bottleneck], norm=config.head_norm, activation=nn.GELU)
        self.prototypes = Prototypes(config.prototypes, config.bottleneck)
        self.teacher_encoder = target_of(self.encoder)
        self.teacher_head = target_of(self.head)
        self.teacher_prototypes = target_of(self.prototypes)
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("tau_t", torch.tensor(tau_t_at(0.0, config.teacher_temperature, config.teacher_warmup)))

    def forward(self, batch: Batch) -> Step:
        y = embed(self.encoder, self.head, batch.views)
        s = self.prototypes(y)
        with torch.no_grad():
            t = self.teacher_prototypes(embed(self.teacher_encoder, self.teacher_head, batch.views[:2]))
        loss = dino_loss(s, t, self.centre, self.config.temperature, self.tau_t)
        return Step(loss, embeddings=(y[0].detach(), y[1].detach()), carry={"mean of t": t.mean(dim=(0, 1))})

    def after_update(self, step: Step, progress: float) -> None:
        momentum = momentum_at(progress, self.config.momentum)
        update_target(self.teacher_encoder, self.encoder, momentum)
        update_target(self.teacher_head, self.head, momentum)
        update_target(self.teacher_prototypes, self.prototypes, momentum)
        self.updates += 1
        self.centre.lerp_(step.carry["mean of t"], (1 / self.updates).clamp(min=1 - self.config.centre_momentum))
        self.tau_t.fill_(tau_t_at(progress, self.config.teacher_temperature, self.config.teacher_warmup))


def build(config: Config, encoder: Encoder) -> DINO:
    """The method around an encoder. Weights are drawn from torch's generator as it stands."""
    return DINO(config, encoder)
