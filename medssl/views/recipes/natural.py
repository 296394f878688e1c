"""Views of photographs and small colour images (histology, blood cells, CIFAR): SimCLR's recipe in its form for small images.

Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations": crop and resize, horizontal flip, colour jitter
with p 0.8, greyscale with p 0.2. Appendix B.9 (CIFAR-10): colour strength 0.5, which is jitter 0.4 / 0.4 / 0.4 / 0.1, and no blur. The crop
goes down to 0.2 of the area, as in SimSiam (Chen and He 2021), in place of SimCLR's 0.08: at 32 pixels the latter leaves nine.
Blur is there for large images: SimCLR's is `blur_p: 0.5` with sigma 0.1 to 2 pixels at 224, the default range here as a share of the edge.
"""

from typing import Annotated

from pydantic import Field

from medssl.config import PluginConfig
from medssl.views.operations import (
    Blur,
    ColourJitter,
    Greyscale,
    HorizontalFlip,
    Operation,
    PositiveRange,
    PositiveShareRange,
    ResizedCrop,
    Share,
)


class Config(PluginConfig):
    name: str = "natural"
    crop_area: PositiveShareRange = Field(default=(0.2, 1.0), description="The range of the share of the image's area that a view shows.")
    crop_aspect: PositiveRange = Field(default=(3 / 4, 4 / 3), description="The range of the shape of that part, as width / height.")
    flip_p: Share = Field(default=0.5, description="The probability of a mirror image, left for right.")
    brightness: Share = Field(default=0.4, description="The largest change of brightness, as a share of the brightness.")
    contrast: Share = Field(default=0.4, description="The largest change of contrast, as a share of the contrast.")
    saturation: Share = Field(default=0.4, description="The largest change of saturation, as a share of the saturation.")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.1, description="The largest turn of the hue, as a share of the circle of colours."
    )
    jitter_p: Share = Field(default=0.8, description="The probability of these four changes.")
    greyscale_p: Share = Field(default=0.2, description="The probability of a view without colours.")
    blur_sigma: PositiveShareRange = Field(
        default=(0.1 / 224, 2 / 224), description="The range of the standard deviation of the blur, as a share of the view's edge."
    )
    blur_p: Share = Field(default=0.0, description="The probability of a blur.")


def build(config: Config) -> tuple[Operation, ...]:
    """Geometry first, then the colours, as SimCLR does it."""
    operations = (
        ResizedCrop(config.crop_area, config.crop_aspect),
        HorizontalFlip(config.flip_p),
        ColourJitter(config.brightness, config.contrast, config.saturation, config.hue, config.jitter_p),
        Greyscale(config.greyscale_p),
        Blur(config.blur_sigma, config.blur_p),
    )
    return tuple(operation for operation in operations if isinstance(operation, ResizedCrop) or operation.p > 0)
