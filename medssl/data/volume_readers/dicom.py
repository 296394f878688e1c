"""DICOM: reads one whole volume from the files of its slices, or from the frames of one file.

The slices are ordered by their places in the patient. Up to two missing slices between two others are interpolated, a tilted gantry is
sheared back, and the axes become canonical: slices from the feet to the head, rows from anterior to posterior, columns from the patient's
right to the left. The whole volume has one grey scale, in the modality's units: HU of CT, else what rescaling each slice gives.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import Field
from pydicom.dataset import Dataset

from medssl.config import Limits, PluginConfig, Window
from medssl.data.dicom import STACKS, functional_groups, intensity, slice_order
from medssl.data.dicom.stack import Stack, arrange
from medssl.data.readers import dicom
from medssl.data.volume_axes import affine_in_lps, axis_codes, in_lps
from medssl.data.volume_intensity import scale_volume
from medssl.data.volume_limits import check_shape
from medssl.errors import ReadError
from medssl.types import Decoded, VolumeFacts, VolumeGrid

_Parts = Sequence[tuple[Path, int]]
_SAME_SPACING = 0.01  # of the edge of a pixel


class Config(PluginConfig):
    name: str = "dicom"
    window: Window = Field(
        default="header",
        description="How grey values are scaled, as data.window; header is the first window of the slice in the middle for CT, else from "
        "air to dense bone, and percentile 0.5 to 99.5 of the foreground for all else.",
    )
    non_finite: Literal["skip", "zero"] = Field(
        default="skip", description="A volume with NaN or infinite values is left out, or these values become 0."
    )
    min_slices: int = Field(default=8, description="As data.min_slices.")
    limits: Limits = Field(default=Limits(), description="Limits above which a volume is refused.")


class Reader:
    """Reads volumes."""

    version = "volumes 1"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._slices = dicom.Reader(dicom.Config(non_finite=config.non_finite, limits=config.limits))

    def read(self, path: Path, index: int = 0) -> Decoded:
        """The frames of one file as a volume. Raises ReadError as `read_parts` does, and no_such_volume for another index than 0."""
        if index:
            raise ReadError(f"no_such_volume: volume {index} of 1")
        return self.read_parts(self._frames(path))

    def read_parts(self, parts: _Parts) -> Decoded:
        """The volume whose slices are these frames of files, in any order.

        Raises ReadError: what the reader of frames, `stack.arrange` and `volume_limits.check_shape` raise, no_volume (frames without places
        that are not of CT, MR or PET, such as those of a film), colour, mosaic, mixed_sizes, tilt (more than half of the slice's edge).
        """
        headers, stack, pixel_mm = self._arranged(parts)
        first = headers[0]
        rows, columns = int(first.Rows), int(first.Columns)
        if stack.margin[0] > rows / 2 or stack.margin[1] > columns / 2:
            raise ReadError("tilt: the slices are shifted against each other by more than half of their edge")
        shape = stack.depth, rows + stack.margin[0], columns + stack.margin[1]
        check_shape((len(parts), *shape[1:]), self._config.limits, self._config.min_slices)
        check_shape(shape, self._config.limits, self._config.min_slices)
        values, stored, suspect = self._fill(parts, stack, shape)
        return self._decoded(values, headers[stack.order[len(parts) // 2]], stack, pixel_mm, stored, suspect)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The file itself; a volume has the files of its parts."""
        return (path,)

    def grid(self, path: Path) -> VolumeGrid:
        """That of the frames of one file, as `grid_of_parts`."""
        return self.grid_of_parts(self._frames(path))

    def grid_of_parts(self, parts: _Parts) -> VolumeGrid:
        """The grid of that volume, from the headers alone. Raises ReadError where they are not those of a volume."""
        headers, stack, pixel_mm = self._arranged(parts)
        down, across = stack.margin
        lengths = stack.depth, int(headers[0].Rows) + down, int(headers[0].Columns) + across
        slices, rows, columns = _in_canonical_axes(lengths, stack)
        return VolumeGrid((slices, rows, columns), _spacing_mm(stack, pixel_mm))

    def _frames(self, path: Path) -> _Parts:
        return [(path, frame) for frame in range(int(self._slices.header(path).get("NumberOfFrames") or 1))]

    def _arranged(self, parts: _Parts) -> tuple[list[Dataset], Stack, tuple[float, float] | None]:
        """The header of each slice, how they lie, and the distance of rows and columns."""
        headers = [self._slices.header(path, index) for path, index in parts]
        _check_headers(headers)
        first = headers[0]
        pixel_mm = functional_groups.spacing_mm(first)
        planes = [slice_order.plane(header, index) for header, (_, index) in zip(headers, parts, strict=True)]
        if not all(planes) and intensity.modality(first) not in {*STACKS, intensity.WITHOUT_HU}:
            raise ReadError(f"no_volume: frames of modality {intensity.modality(first)} that do not say where they lie")
        return headers, arrange(planes, pixel_mm, _stated_step(first)), pixel_mm

    def _fill(
        self, parts: _Parts, stack: Stack, shape: tuple[int, int, int]
    ) -> tuple[Float32[np.ndarray, "d h w"], tuple[float, float] | None, str]:
        """The volume in the modality's units [slice, row, column], with the missing slices; the least and the largest value that the files
        can store, None for floating-point numbers; and the first sign of damage."""
        values = np.full(shape, np.nan, np.float32)
        low, high, suspect = np.inf, -np.inf, ""
        for number, place, shift in zip(stack.order, stack.places, stack.shifts, strict=True):
            found = self._slices.values(*parts[number])
            rows, columns = found.real.shape
            picture = values[place]
            picture[:rows, :columns] = found.real
            if stack.tilt_degrees:
                picture[:] = _shifted(picture, shift)
            low, high, suspect = min(low, found.low), max(high, found.high), suspect or found.suspect
        for before, after in zip(stack.places, stack.places[1:], strict=False):
            for place in range(before + 1, after):
                share = np.float32((place - before) / (after - before))
                values[place] = (1 - share) * values[before] + share * values[after]
        if np.isnan(values).all():
            raise ReadError("constant: all voxels are padding")
        np.nan_to_num(values, copy=False, nan=float(np.nanmin(values)))
        return values, (low, high) if np.isfinite(high) else None, suspect

    def _decoded(
        self,
        values: Float32[np.ndarray, "d h w"],
        header: Dataset,
        stack: Stack,
        pixel_mm: tuple[float, float] | None,
        stored: tuple[float, float] | None,
        suspect: str,
    ) -> Decoded:
        """`header`: of the slice in the middle."""
        modality, code, to_lps = intensity.modality(header), "", None
        if stack.lps is not None:
            code = axis_codes(stack.lps)
            if stack.to_lps is not None:
                depth, rows, columns = values.shape
                to_lps = affine_in_lps(stack.to_lps, stack.lps, (columns, rows, depth))
            values = in_lps(values, stack.lps)
        window = self._config.window
        pixels, box = scale_volume(values, window, modality == "CT", intensity.stated_window(header), stored)
        if str(header.PhotometricInterpretation).strip() == "MONOCHROME1" and not (modality == "CT" and window not in ("header", "none")):
            np.subtract(1, pixels, out=pixels)
        facts = VolumeFacts(code, stack.depth - len(stack.order), round(stack.tilt_degrees, 2), box, to_lps)
        bits = int(header.get("BitsStored") or header.BitsAllocated)
        return Decoded(pixels, bits, _spacing_mm(stack, pixel_mm), modality, suspect=suspect, volume=facts)


def build(config: Config) -> Reader:
    """The reader of whole volumes that `config` describes."""
    return Reader(config)


def _check_headers(headers: Sequence[Dataset]) -> None:
    """Raises ReadError where the frames cannot be the slices of one grey volume."""
    if any("MOSAIC" in str(header.get("ImageType") or "").upper() for header in headers):
        raise ReadError("mosaic: many slices in one picture; convert the series to NIfTI first, as with dcm2niix")
    if any(int(header.get("SamplesPerPixel") or 1) != 1 or "PALETTE" in str(header.PhotometricInterpretation) for header in headers):
        raise ReadError("colour: pictures in colour, which are computed from others")
    sizes = {(int(header.Rows), int(header.Columns)) for header in headers}
    if len(sizes) > 1:
        raise ReadError(f"mixed_sizes: slices of {' and '.join(f'{rows} x {columns}' for rows, columns in sorted(sizes))} pixels")
    spacings = np.array([spacing for header in headers if (spacing := functional_groups.spacing_mm(header))])
    if len(spacings) and (spacings.max(axis=0) > (1 + _SAME_SPACING) * spacings.min(axis=0)).any():
        raise ReadError(f"mixed_sizes: slices with pixels of {spacings.min():.3g} to {spacings.max():.3g} mm")


def _spacing_mm(stack: Stack, pixel_mm: tuple[float, float] | None) -> tuple[float, ...] | None:
    """Between slices, rows and columns in canonical axes; None where one of them is not known."""
    spacing = _in_canonical_axes((stack.step_mm, *(pixel_mm or (None, None))), stack)
    known = tuple(float(mm) for mm in spacing if mm)
    return known if len(known) == 3 else None


def _in_canonical_axes(of_stack: tuple[Any, ...], stack: Stack) -> tuple[Any, ...]:
    """What is known of the slices, rows and columns of a stack, in the order of canonical axes."""
    if stack.lps is None:
        return of_stack
    return tuple(of_stack[2 - at] for at in np.argsort(stack.lps[:, 0])[::-1])


def _stated_step(header: Dataset) -> float | None:
    """The distance of slices in mm as the header states it, for slices that do not say where they lie."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        value = header.get(name)
        if value is not None and str(value).strip() and 0 < abs(float(value)) < float("inf"):
            return abs(float(value))
    return None


def _shifted(picture: Float32[np.ndarray, "h w"], shift: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """The slice moved by that many rows and columns, NaN where nothing is known."""
    from scipy import ndimage

    return ndimage.shift(picture, shift, order=1, mode="constant", cval=np.nan)
