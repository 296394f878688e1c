"""Views of whole volumes of MR, PET and other scans whose grey values have no unit.

As those of CT (`volume_ct`), but with larger changes of gain, offset and gamma, as the values depend on coil and sequence; with a bias
field, the slow change of brightness that coils make (MONAI's and TorchIO's RandomBiasField); and with mirror images left for right, as most
volumes are of the head, whose halves look alike. `flip_axes: []` is for the trunk, and for findings that have a side.
"""

from typing import Annotated

from pydantic import Field

from medssl.config import PluginConfig
from medssl.views.operations import (
    AxialRotation,
    Axis,
    AxisFlip,
    BiasField,
    Blur,
    BoxCrop,
    BrightnessContrast,
    Gamma,
    Noise,
    PositiveRange,
    PositiveShareRange,
    Share,
    ShareRange,
    ThickSlices,
    VolumeOperation,
)


class Config(PluginConfig):
    name: str = "volume_mr"
    crop_volume: PositiveShareRange = Field(default=(0.3, 1.0), description="The range of the share of the volume that a view shows.")
    crop_stretch: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.3, description="How much the edges of that part may differ in their shares; 0 gives parts in the shape of the volume."
    )
    min_overlap: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.25, description="What two views of a volume have in common at least, as a share of the smaller one."
    )
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        default=10, description="The largest rotation in the axial plane in degrees, to either side."
    )
    rotation_p: Share = Field(default=0.5, description="The probability of a rotation.")
    flip_axes: tuple[Axis, ...] = Field(default=("left_right",), description="The axes along which views may be mirrored.")
    flip_p: Share = Field(default=0.5, description="The probability of a mirror image, for each of these axes.")
    brightness: Share = Field(default=0.15, description="The largest change of brightness, as a share of the full range.")
    contrast: Share = Field(default=0.3, description="The largest change of contrast, as a share of the contrast.")
    brightness_contrast_p: Share = Field(default=0.8, description="The probability of a change of brightness and contrast.")
    gamma: PositiveRange = Field(default=(0.7, 1.5), description="The range of the exponent of the grey values.")
    gamma_p: Share = Field(default=0.3, description="The probability of such an exponent.")
    blur_sigma: PositiveShareRange = Field(
        default=(0.004, 0.012), description="The range of the standard deviation of the blur, as a share of the view's edges."
    )
    blur_p: Share = Field(default=0.2, description="The probability of a blur.")
    noise_std: ShareRange = Field(
        default=(0.0, 0.05), description="The range of the standard deviation of the noise, as a share of the full range."
    )
    noise_p: Share = Field(default=0.2, description="The probability of noise.")
    bias_strength: Share = Field(default=0.15, description="The largest coefficient of the bias field; 0.3 changes values by half.")
    bias_p: Share = Field(default=0.3, description="The probability of a bias field.")
    thick_slices: Annotated[int, Field(ge=2, le=8)] = Field(default=3, description="How many slices become one thick slice.")
    thick_slices_p: Share = Field(default=0.2, description="The probability of thick slices.")


def build(config: Config) -> tuple[VolumeOperation, ...]:
    """Geometry first, then the values, in the order in which they arise: slices, field of the coils, optics, quanta, read-out."""
    operations = (
        BoxCrop(config.crop_volume, config.crop_stretch, config.min_overlap),
        AxialRotation(config.rotation_degrees, config.rotation_p),
        *(AxisFlip(axis, config.flip_p) for axis in config.flip_axes),
        ThickSlices(config.thick_slices, config.thick_slices_p),
        BiasField(config.bias_strength, config.bias_p),
        Blur(config.blur_sigma, config.blur_p),
        Noise(config.noise_std, config.noise_p),
        BrightnessContrast(config.brightness, config.contrast, config.brightness_contrast_p),
        Gamma(config.gamma, config.gamma_p),
    )
    return tuple(operation for operation in operations if isinstance(operation, BoxCrop) or operation.p > 0)
