"""Views of chest radiographs and of slices of CT and MR, all grey: what differs between two exposures of one patient, and no more.

- Crop 0.3 to 1 of the area. SimCLR (Chen et al. 2020) goes down to 0.08, where two views of a chest may share no anatomy and a finding is
  cut away; MoCo-CXR (Sowrirajan et al. 2021) leaves crops out for that reason, yet without them two views of the same projection are so
  well aligned that the task is solved by position alone. Between the two stands 0.3.
- Rotation by up to 10 degrees, as in MoCo-CXR. Its other operation, the horizontal flip, is there and off: the heart, the liver and the
  stomach have their side, and so have a lead and a tube. `flip_p: 0.5` is for findings that look alike on both sides.
- No vertical flip: no image is read upside down, and lungs, diaphragm and the air-fluid levels of an effusion have their order.
- Brightness, contrast and gamma stand for colour jitter: tube voltage, dose, detector and post-processing differ between scanners; hue,
  saturation and greyscale mean nothing on one channel (MoCo-CXR says the same).
- Light blur and noise, seldom: detector and dose. SimCLR's blur (sigma up to 2 pixels at 224) hides nodules and interstitial lines,
  ours stays at about half of that.
- Cut-out is there and off: it may cover the one finding.

Van der Sluijs et al. 2023 ("Exploring Image Augmentations for Siamese Representation Learning with Chest X-Rays") compare such operations
alone and in pairs on three data sets; REMEDIS (Azizi et al. 2023) has rotation, elastic deformation and histogram equalisation as options.
"""

from typing import Annotated

from pydantic import Field

from medssl.config import PluginConfig
from medssl.views.operations import (
    Blur,
    BrightnessContrast,
    CutOut,
    Gamma,
    HorizontalFlip,
    Noise,
    Operation,
    PositiveRange,
    PositiveShareRange,
    ResizedCrop,
    Rotation,
    Share,
    ShareRange,
)


class Config(PluginConfig):
    name: str = "chest_xray"
    crop_area: PositiveShareRange = Field(default=(0.3, 1.0), description="The range of the share of the image's area that a view shows.")
    crop_aspect: PositiveRange = Field(default=(3 / 4, 4 / 3), description="The range of the shape of that part, as width / height.")
    flip_p: Share = Field(default=0.0, description="The probability of a mirror image, left for right.")
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        default=10, description="The largest rotation in degrees, to either side."
    )
    rotation_p: Share = Field(default=0.5, description="The probability of a rotation.")
    brightness: Share = Field(default=0.15, description="The largest change of brightness, as a share of the full range.")
    contrast: Share = Field(default=0.25, description="The largest change of contrast, as a share of the contrast.")
    brightness_contrast_p: Share = Field(default=0.8, description="The probability of a change of brightness and contrast.")
    gamma: PositiveRange = Field(default=(0.75, 1.33), description="The range of the exponent of the grey values.")
    gamma_p: Share = Field(default=0.5, description="The probability of such an exponent.")
    blur_sigma: PositiveShareRange = Field(
        default=(0.0005, 0.005), description="The range of the standard deviation of the blur, as a share of the view's edge."
    )
    blur_p: Share = Field(default=0.2, description="The probability of a blur.")
    noise_std: ShareRange = Field(
        default=(0.0, 0.03), description="The range of the standard deviation of the noise, as a share of the full range."
    )
    noise_p: Share = Field(default=0.2, description="The probability of noise.")
    cutout_side: ShareRange = Field(
        default=(0.1, 0.3), description="The range of the edge of the square that is blackened, as a share of the view's edge."
    )
    cutout_p: Share = Field(default=0.0, description="The probability of a blackened square.")


def build(config: Config) -> tuple[Operation, ...]:
    """Geometry first, on the clean image; then the intensities, in the order in which they arise: optics, quanta, read-out."""
    operations = (
        Rotation(config.rotation_degrees, config.rotation_p),
        ResizedCrop(config.crop_area, config.crop_aspect),
        HorizontalFlip(config.flip_p),
        Blur(config.blur_sigma, config.blur_p),
        Noise(config.noise_std, config.noise_p),
        BrightnessContrast(config.brightness, config.contrast, config.brightness_contrast_p),
        Gamma(config.gamma, config.gamma_p),
        CutOut(config.cutout_side, config.cutout_p),
    )
    return tuple(operation for operation in operations if isinstance(operation, ResizedCrop) or operation.p > 0)
