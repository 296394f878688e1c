"""The operations that make a view of an image, as plain data without code.

A recipe (`views/recipes`) returns operations in the order in which they are applied; an executor (`views/executors.py`) applies them.
Lengths are shares of the image's edge, and intensities are shares of the full range [0, 1]: one recipe fits every size and bit depth. `p`
is the probability with which an operation is applied. Every range is (low, high), and values are drawn from it uniformly.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the lower end comes first: {[value[1], value[0]]}")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
_PositiveShare = Annotated[float, Field(gt=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
ShareRange = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
PositiveShareRange = Annotated[tuple[_PositiveShare, _PositiveShare], AfterValidator(_ascending)]
PositiveRange = Annotated[tuple[_Positive, _Positive], AfterValidator(_ascending)]


@dataclass(frozen=True, slots=True)
class ResizedCrop:
    """Cuts out a box and resizes it to the view. `area`: range of its share of the image; `aspect`: range of width / height (drawn on a log
    scale)."""

    area: tuple[float, float]
    aspect: tuple[float, float]


@dataclass(frozen=True, slots=True)
class HorizontalFlip:
    """Left becomes right."""

    p: float


@dataclass(frozen=True, slots=True)
class VerticalFlip:
    """Up becomes down."""

    p: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotates about the centre by an angle within +-`degrees`; the new corners are black, as outside an X-ray collimator."""

    degrees: float
    p: float


@dataclass(frozen=True, slots=True)
class BrightnessContrast:
    """x * (1 + c) + b, clipped, with c within +-`contrast` and b within +-`brightness`: a detector's gain and offset."""

    brightness: float
    contrast: float
    p: float


@dataclass(frozen=True, slots=True)
class Gamma:
    """x ** g with g in `exponent`: the curve of another film or detector."""

    exponent: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class Blur:
    """Gaussian blur whose standard deviation is a share of the view's edge, in `sigma`."""

    sigma: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Gaussian noise, independent for each pixel, whose standard deviation is a share of the full range, in `std`."""

    std: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class CutOut:
    """One black box whose sides are shares of the view's edge, in `side`."""

    side: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class ColourJitter:
    """torchvision's ColorJitter: brightness, contrast and saturation times 1 +- the given share, hue turned by +- a share of the circle, in
    random order. Saturation and hue of a grey image stay."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float


@dataclass(frozen=True, slots=True)
class Greyscale:
    """Colour becomes grey, on as many channels as before."""

    p: float


Axis = Literal["head_feet", "front_back", "left_right"]  # of a volume [C, D, H, W]: D, H and W
AXES: tuple[Axis, ...] = ("head_feet", "front_back", "left_right")


@dataclass(frozen=True, slots=True)
class BoxCrop:
    """Of a volume: cuts out a box and resizes it to the view. `volume`: range of the box's share of the volume. `stretch`: how much the
    shares of the three edges differ; 0 gives boxes in the shape of the volume. `min_overlap`: what the boxes of a pair of views have in
    common at least, as a share of the smaller box."""

    volume: tuple[float, float]
    stretch: float
    min_overlap: float


@dataclass(frozen=True, slots=True)
class AxialRotation:
    """Of a volume: rotates every axial slice about the centre of the crop by one angle within +-`degrees`. What comes from outside of the
    volume is black."""

    degrees: float
    p: float


@dataclass(frozen=True, slots=True)
class AxisFlip:
    """Of a volume: a mirror image along one axis."""

    axis: Axis
    p: float


@dataclass(frozen=True, slots=True)
class BiasField:
    """Of a volume: times a smooth field, as that of the coils of an MR scanner. It is exp of a polynomial of degree 3 along the three axes
    (of Legendre's polynomials; Van Leemput et al. 1999), whose 19 coefficients are drawn within +-`strength`."""

    strength: float
    p: float


@dataclass(frozen=True, slots=True)
class ThickSlices:
    """Of a volume: the means of `factor` neighbouring slices, interpolated back to as many slices as before."""

    factor: int
    p: float


Operation = (
    ResizedCrop | HorizontalFlip | VerticalFlip | Rotation | BrightnessContrast | Gamma | Blur | Noise | CutOut | ColourJitter | Greyscale
)
VolumeGeometry = BoxCrop | AxialRotation | AxisFlip
VolumeIntensity = BrightnessContrast | Gamma | Blur | Noise | BiasField | ThickSlices
VolumeOperation = VolumeGeometry | VolumeIntensity
AnyOperation = Operation | VolumeOperation
