"""The residual encoder of nnU-Net in its preset L (Isensee et al. 2024, "nnU-Net Revisited", arXiv 2404.09556), as the network "ResEncL" of
nnssl: six levels, of which each but the first halves the edges. The features are the means over the last level.

The package dynamic-network-architectures, which nnU-Net uses, is optional: it wants another version of timm than the networks of images.
Weights start as those of nnU-Net (He et al. 2015), but no residual branch starts at zero. The instance normalisations of the last level
enlarge rounding errors without bounds where it has one or two voxels (docs/decisions.md), so each axis must have two.
"""

from typing import Any

from torch import Tensor, nn

from medssl.errors import UserError

DIVISOR = 32  # of the edges
CLASSES = ("conv_op", "norm_op", "dropout_op", "nonlin")  # arguments that name a class
_LEVELS = (1, 2, 4, 8, 10, 10)  # channels, as multiples of those of the first level
_MISSING = 'backbone.model=resenc needs the package dynamic-network-architectures. Install it with: pip install "medssl[nnunet]"'


def architecture(width: int) -> dict[str, Any]:
    """The arguments of nnU-Net's `ResidualEncoderUNet` as its plans have them, without the numbers of channels and classes."""
    return {
        "n_stages": len(_LEVELS),
        "features_per_stage": [width * factor for factor in _LEVELS],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3] for _ in _LEVELS],
        "strides": [[1, 1, 1], *([2, 2, 2] for _ in _LEVELS[1:])],
        "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
        "n_conv_per_stage_decoder": [1 for _ in _LEVELS[1:]],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


class ResEnc(nn.Module):
    """`encoder` is that of a `ResidualEncoderUNet`. nnU-Net has two names for each tensor of a convolution and its normalisation, of which
    this network keeps one: `nnunet_tensors` gives both."""

    def __init__(self, channels: int, width: int) -> None:
        """Raises UserError where the package is missing."""
        super().__init__()
        try:
            from dynamic_network_architectures.building_blocks.residual_encoders import (  # pyright: ignore[reportMissingImports]
                ResidualEncoder,
            )
            from dynamic_network_architectures.building_blocks.simple_conv_blocks import (  # pyright: ignore[reportMissingImports]
                ConvDropoutNormReLU,
            )
            from dynamic_network_architectures.initialization.weight_init import (  # pyright: ignore[reportMissingImports]
                InitWeights_He,
            )
        except ImportError:
            raise UserError(_MISSING) from None
        arguments = architecture(width) | {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
        del arguments["n_conv_per_stage_decoder"]
        self.encoder: nn.Module = ResidualEncoder(channels, **arguments).apply(InitWeights_He(1e-2))
        for part in list(self.encoder.modules()):
            if isinstance(part, ConvDropoutNormReLU):
                del part.conv, part.norm  # `all_modules` holds both, and is what computes
        self.num_features = width * _LEVELS[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D] of volumes [B, C, D, H, W]."""
        return self.encoder(x).mean((2, 3, 4))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The layers in their order, as timm asks for them."""
        return {"stem": r"^encoder\.stem", "blocks": r"^encoder\.stages\.(\d+)" if coarse else r"^encoder\.stages\.(\d+)\.blocks\.(\d+)"}


def nnunet_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a `ResEnc` by all names that they have in nnU-Net. Two names of a tensor share its memory, also in a file."""
    own = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    second = {name.replace("all_modules.0.", "conv.").replace("all_modules.1.", "norm."): tensor for name, tensor in own.items()}
    return own | second
