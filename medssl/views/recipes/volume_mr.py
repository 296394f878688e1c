"""Views of whole volumes of MR, PET and other scans whose grey values have no unit.

As those of CT (`volume_ct`), but with larger changes of gain, offset and gamma, as the values depend on coil and sequence; with a bias
field, the slow change of brightness that coils make (MONAI's and TorchIO's RandomBiasField); and with mirror images left for right, as most
volumes are of the head, whose halves look alike. `flip_axes: []` is for the trunk, and for findings that have a side.
"""

from pydantic import Field

from medssl.views.operations import Axis, BiasField, PositiveRange, Share, VolumeOperation
from medssl.views.recipes import volume_ct


class Config(volume_ct.Config):
    """The settings of `volume_ct` with other numbers, and those of the bias field."""

    name: str = "volume_mr"
    flip_axes: tuple[Axis, ...] = ("left_right",)
    brightness: Share = 0.15
    contrast: Share = 0.3
    gamma: PositiveRange = (0.7, 1.5)
    bias_strength: Share = Field(default=0.15, description="The largest coefficient of the bias field; 0.3 changes values by half.")
    bias_p: Share = Field(default=0.3, description="The probability of a bias field.")


def build(config: Config) -> tuple[VolumeOperation, ...]:
    """As those of `volume_ct`, with the field of the coils after the slices."""
    return volume_ct.operations(config, BiasField(config.bias_strength, config.bias_p))
