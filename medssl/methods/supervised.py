"""Supervised: cross-entropy with the labels of the images, the upper reference for methods that use no labels.

    symbol   here     meaning
    x        logits   scores of the classes, a linear map of the encoder's features
    y        labels   the image's class
    K        classes
    eps      label_smoothing

    L = - 1/n sum_i sum_k q_ik log softmax(x_i)_k,     q_ik = (1 - eps) [k = y_i] + eps / K,     over both views of each image

The smoothing is that of Szegedy et al., CVPR 2016, section 7. Views, batches, encoder and schedule are those of the other methods. It
sees the labels of all training images, so it has no place in an experiment that asks what a share of the labels is worth.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from medssl.config import PluginConfig
from medssl.nn import Encoder, gather, l2_normalize
from medssl.types import Batch, Step

TITLE = "Supervised"
USES_LABELS = True


class Config(PluginConfig):
    name: str = "supervised"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="The share of the target that is spread equally over all classes.")


class Supervised(nn.Module):
    """Views and labels to the loss above; logs the share of views whose class has the highest score."""

    def __init__(self, config: Config, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = nn.Linear(encoder.num_features, classes)

    def forward(self, batch: Batch) -> Step:
        assert batch.labels is not None
        features = self.encoder(torch.cat(batch.views))
        logits = torch.cat([gather(x) for x in self.head(features).chunk(2)])
        labels = gather(batch.labels).repeat(2)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        accuracy = (logits.detach().argmax(dim=1) == labels).double().mean()
        f1, f2 = map(gather, l2_normalize(features.detach()).chunk(2))
        return Step(loss, {"accuracy": accuracy}, embeddings=(f1, f2))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing but the weights changes from step to step."""


def build(config: Config, encoder: Encoder, classes: int) -> Supervised:
    """The method around an encoder, for labels below `classes`. Weights are drawn from torch's generator as it stands."""
    return Supervised(config, encoder, classes)
