"""Views of volumes that are shapes, such as the binary masks of AdrenalMNIST3D: geometry only, as their values mean nothing.

Boxes, rotation and mirror images are those of `volume_mr`.
"""

from typing import Annotated

from pydantic import Field

from medssl.config import PluginConfig
from medssl.views.operations import AxialRotation, Axis, AxisFlip, BoxCrop, PositiveShareRange, Share, VolumeOperation


class Config(PluginConfig):
    name: str = "volume_shape"
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


def build(config: Config) -> tuple[VolumeOperation, ...]:
    """Geometry only: box, rotation and mirror images."""
    return applied(
        BoxCrop(config.crop_volume, config.crop_stretch, config.min_overlap),
        AxialRotation(config.rotation_degrees, config.rotation_p),
        *(AxisFlip(axis, config.flip_p) for axis in config.flip_axes),
    )


def applied(*operations: VolumeOperation) -> tuple[VolumeOperation, ...]:
    """Those of the operations that have a probability."""
    return tuple(operation for operation in operations if isinstance(operation, BoxCrop) or operation.p > 0)
