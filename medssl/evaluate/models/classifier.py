"""The classifier: an encoder and a linear head on its features. Full fine-tuning trains it, and classifier.safetensors holds it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from medssl.evaluate.models.pooling import Pooling, pool_alone, pooled_width


class Classifier(nn.Module):
    """`outputs` logits of an encoder's features. The classes share the probability 1; of several labels (`multilabel`) each has its own.
    `temperature`: what the logits are divided by, so that 0.8 is right in 80 of 100 cases. `pooling`: how the features of a volume are
    made of those of its slices; "none" for a classifier of images.

    The head starts at zero, as in big_vision's transfers: all classes equally likely, and no random numbers to account for.
    """

    def __init__(self, encoder: Any, outputs: int, multilabel: bool = False, temperature: float = 1.0, pooling: Pooling = "none") -> None:
        super().__init__()
        self.encoder, self.multilabel, self.temperature = encoder, multilabel, temperature
        self.pooling: Pooling = pooling
        self.head = nn.Linear(pooled_width(encoder.num_features, pooling), outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Shaped[Tensor, "b c *edges"]) -> Float[Tensor, "b k"]:
        """The logits, before the temperature. To a classifier of volumes each image is a volume of one slice."""
        return self.head(pool_alone(self.encoder(images), self.pooling).to(self.head.weight.dtype))

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
        """As they are kept: "encoder.*", and the head's "weight" [k, d] and "bias" [k] in float64."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return {name.removeprefix("head."): tensor.double() if name.startswith("head.") else tensor for name, tensor in state.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take kept tensors over; the head has float64 then. Raises RuntimeError for one too many, too few, or of another shape."""
        self.head.double()
        self.load_state_dict({name if name.startswith("encoder.") else f"head.{name}": tensor for name, tensor in tensors.items()})
