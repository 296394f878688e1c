"""Views of whole volumes of CT: what differs between two scans of one patient, and no more.

- A box of 0.3 to 1 of the *volume*. The boxes of a pair have a quarter of the smaller box in common at least: two views without any common
  anatomy teach nothing. (nnssl asks for half of each axis, which may be an eighth of the volume.)
- Rotation by up to 10 degrees in the axial plane, as patients lie a little turned.
- No mirror image: liver, heart, spleen and stomach have their side. `flip_axes: [left_right]` is for heads and limbs.
- Gain, offset and gamma stand for the tube voltage, contrast medium and reconstruction, which change the values within a window in HU.
- Thick slices: the same anatomy is read at 1 and at 3 to 5 mm.
- Light blur and noise: reconstruction kernel and dose.
"""

from typing import Annotated

from pydantic import Field

from medssl.views.operations import (
    Axis,
    Blur,
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
from medssl.views.recipes import volume_shape


class Config(volume_shape.Config):
    """The geometry of `volume_shape`, and changes of the values."""

    name: str = "volume_ct"
    flip_axes: tuple[Axis, ...] = ()
    brightness: Share = Field(default=0.1, description="The largest change of brightness, as a share of the full range.")
    contrast: Share = Field(default=0.2, description="The largest change of contrast, as a share of the contrast.")
    brightness_contrast_p: Share = Field(default=0.8, description="The probability of a change of brightness and contrast.")
    gamma: PositiveRange = Field(default=(0.8, 1.25), description="The range of the exponent of the grey values.")
    gamma_p: Share = Field(default=0.3, description="The probability of such an exponent.")
    blur_sigma: PositiveShareRange = Field(
        default=(0.004, 0.012), description="The range of the standard deviation of the blur, as a share of the view's edges."
    )
    blur_p: Share = Field(default=0.2, description="The probability of a blur.")
    noise_std: ShareRange = Field(
        default=(0.0, 0.05), description="The range of the standard deviation of the noise, as a share of the full range."
    )
    noise_p: Share = Field(default=0.2, description="The probability of noise.")
    thick_slices: Annotated[int, Field(ge=2, le=8)] = Field(default=3, description="How many slices become one thick slice.")
    thick_slices_p: Share = Field(default=0.2, description="The probability of thick slices.")


def build(config: Config) -> tuple[VolumeOperation, ...]:
    """Geometry first, then the values, in the order in which they arise: slices, optics, quanta, read-out."""
    return operations(config)


def operations(config: Config, *fields: VolumeOperation) -> tuple[VolumeOperation, ...]:
    """The operations of `build`; `fields` change the values between the slices and the optics."""
    return (
        *volume_shape.build(config),
        *volume_shape.applied(
            ThickSlices(config.thick_slices, config.thick_slices_p),
            *fields,
            Blur(config.blur_sigma, config.blur_p),
            Noise(config.noise_std, config.noise_p),
            BrightnessContrast(config.brightness, config.contrast, config.brightness_contrast_p),
            Gamma(config.gamma, config.gamma_p),
        ),
    )
