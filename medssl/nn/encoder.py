"""The encoder: intensity standardisation with the training images' statistics, then a backbone. What pretraining makes and users keep."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def to_unit(images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Images as float in [0, 1]: uint8 divided by 255, floating point left as it is."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


class Encoder(nn.Module):
    """`mean` and `std` (length C, of images in [0, 1]) are buffers, so the weights file carries the intensity contract."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).float())
        self.register_buffer("std", std.reshape(1, -1, 1, 1).float())

    @property
    def num_features(self) -> int:
        """D, the width of the features."""
        return int(self.backbone.num_features)  # pyright: ignore[reportArgumentType] - every backbone states it

    def forward(self, images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        standard = (to_unit(images).to(self.mean.dtype) - self.mean) / self.std
        return self.backbone(standard.contiguous(memory_format=torch.channels_last))
