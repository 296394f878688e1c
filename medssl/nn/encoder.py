"""The encoder: intensity standardisation with the training images' statistics, then a backbone. What pretraining makes and users keep."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def to_unit_range(images: Shaped[Tensor, "b c *edges"]) -> Float[Tensor, "b c *edges"]:
    """Images as float in [0, 1]: uint8 divided by 255, floating point left as it is."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


class Encoder(nn.Module):
    """`mean` and `std` (length C, of images in [0, 1]) are buffers, so the weights file carries the intensity contract. `axes`: 2 for
    images [B, C, H, W], 3 for volumes [B, C, D, H, W].

    `micro_batch`: in training this many images at most go through the backbone at once; the backward pass computes their activations
    again, so that memory is that of one part. Unlike accumulated gradients, the loss still compares all images with one another (as
    GradCache, Gao et al. 2021); a batch normalisation sees the parts.
    """

    mean: Tensor
    std: Tensor
    micro_batch: int | None = None

    def __init__(self, backbone: nn.Module, mean: Float[Tensor, " c"], std: Float[Tensor, " c"], axes: int = 2) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", mean.reshape(1, -1, *(1,) * axes).float())
        self.register_buffer("std", std.reshape(1, -1, *(1,) * axes).float())

    @property
    def num_features(self) -> int:
        """D, the width of the features."""
        return int(self.backbone.num_features)  # pyright: ignore[reportArgumentType] - every backbone states it

    @property
    def memory_format(self) -> torch.memory_format:
        """The order in memory in which convolutions are fast: the channels of a pixel beside each other."""
        return torch.channels_last if self.mean.ndim == 4 else torch.channels_last_3d

    def channels_last(self) -> "Encoder":
        """This encoder, with its weights in that order."""
        return self.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue] - as torch documents

    def forward(self, images: Shaped[Tensor, "b c *edges"]) -> Float[Tensor, "b d"]:
        if not self.training or self.micro_batch is None or len(images) <= self.micro_batch:
            return self._features(images)
        parts = images.split(self.micro_batch)
        if not torch.is_grad_enabled():
            return torch.cat([self._features(part) for part in parts])
        return torch.cat([checkpoint(self._features, part, use_reentrant=False, context_fn=self._checkpoint_contexts) for part in parts])

    def _features(self, images: Shaped[Tensor, "b c *edges"]) -> Float[Tensor, "b d"]:
        standard = (to_unit_range(images).to(self.mean.dtype) - self.mean) / self.std
        return self.backbone(standard.contiguous(memory_format=self.memory_format))

    def _checkpoint_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The surroundings of the forward pass, and of its repetition: which leaves the running statistics alone."""
        return nullcontext(), freeze_running_statistics(self)


@contextmanager
def freeze_running_statistics(module: nn.Module) -> Iterator[None]:
    """Batch normalisations count their batches, but learn nothing of them: with momentum 0. (They must compute what they did before.)"""
    norms: list[Any] = [part for part in module.modules() if getattr(part, "running_mean", None) is not None]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked -= 1
