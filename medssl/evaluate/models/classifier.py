"""The classifier: an encoder and a linear head on its features. Full fine-tuning trains it, and classifier.safetensors holds it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor, nn

from medssl.evaluate.models.gated_attention import GatedAttention
from medssl.evaluate.models.pooling import Pooling, pool, pool_alone, pool_without_each, pooled_width


class Classifier(nn.Module):
    """`outputs` logits of an encoder's features. The classes share the probability 1; of several labels (`multilabel`) each has its own.
    `temperature`: what the logits are divided by, so that 0.8 is right in 80 of 100 cases. `pooling`: how the features of a volume are
    made of those of its slices; "none" for a classifier of images. "attention": by the part `attention`, which is learned.

    The head starts at zero, as in big_vision's transfers: all classes equally likely, and no random numbers to account for.
    """

    def __init__(self, encoder: Any, outputs: int, multilabel: bool = False, temperature: float = 1.0, pooling: Pooling = "none") -> None:
        super().__init__()
        self.encoder, self.multilabel, self.temperature = encoder, multilabel, temperature
        self.pooling: Pooling = pooling
        self.head = nn.Linear(pooled_width(encoder.num_features, pooling), outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if pooling == "attention":
            self.attention = GatedAttention(encoder.num_features)

    def forward(self, images: Shaped[Tensor, "b c *edges"]) -> Float[Tensor, "b k"]:
        """The logits, before the temperature. To a classifier of volumes each image is a volume of one slice."""
        return self.head(pool_alone(self.encoder(images), self.pooling).to(self.head.weight.dtype))

    @torch.no_grad()
    def pool(self, features: Float[np.ndarray, "s d"], starts: Int[np.ndarray, " v"]) -> Float[np.ndarray, "v D"]:
        """The features of volumes. `features`: of their slices, volume by volume; `starts`: where each volume begins."""
        if self.pooling != "attention":
            return pool(features, starts, self.pooling)
        return self.attention(self._as_attention(features), torch.from_numpy(starts).to(self.head.weight.device)).cpu().numpy()

    @torch.no_grad()
    def pool_without_each(self, features: Float[np.ndarray, "s d"]) -> Float[np.ndarray, "s D"]:
        """The features of one volume of at least two slices, without its first slice, without its second one, and so on."""
        if self.pooling != "attention":
            return pool_without_each(features, self.pooling)
        return self.attention.without_each(self._as_attention(features)).cpu().numpy()

    def _as_attention(self, features: np.ndarray) -> Tensor:
        weight = self.attention.w.weight
        return torch.from_numpy(features).to(weight.device, weight.dtype)

    @torch.no_grad()
    def logits(self, features: Float[Tensor, "b d"]) -> Float64[Tensor, "b k"]:
        """After the temperature, of the encoder's features, pooled for volumes, in float64."""
        return (features.double() @ self.head.weight.double().T + self.head.bias.double()) / self.temperature

    @torch.no_grad()
    def probabilities(self, features: Float[Tensor, "b d"]) -> Float64[Tensor, "b k"]:
        """Calibrated, of the encoder's features, pooled for volumes, in float64."""
        logits = self.logits(features)
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """As they are kept: "encoder.*", and in float64 the head's "weight" [k, d] and "bias" [k], and "attention.*"."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return {name.removeprefix("head."): tensor if name.startswith("encoder.") else tensor.double() for name, tensor in state.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take kept tensors over; all but the encoder has float64 then.

        Raises RuntimeError where one is missing, too many, or of another shape.
        """
        for name, part in self.named_children():
            if name != "encoder":
                part.double()
        self.load_state_dict({name if "." in name else f"head.{name}": tensor for name, tensor in tensors.items()})
