"""How the slices of a volume lie in the patient: their order, what is missing between them, a tilt of the gantry, and the axes.

p_k          position of the first pixel of slice k, in mm (ImagePositionPatient)
x, y         directions of columns and rows (ImageOrientationPatient), n = x * y their normal
p_k . n      where slice k lies: the order of the slices
p_k . x, .y  equal for all slices but those of a tilted gantry, which are shifted within their planes
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from medssl.data.dicom.slice_order import Plane
from medssl.errors import ReadError

_GAP = 1.5  # times the distance of neighbours
_MOST_MISSING = 2  # neighbouring slices that are interpolated
_UNEVEN = 0.5  # of the distance of neighbours: where slices lie so far from their places, the volume would be distorted
_SAME_PLACE_MM = 0.01
_SHIFT = 0.5  # of a pixel, from the first to the last slice: less is no tilt
_SAME_DIRECTION = 0.999  # the least cosine between the directions of two slices


class Stack(NamedTuple):
    """`order`: the numbers of the slices along their normal. `places`: where each of them stands among the slices of the volume; the others
    are missing. `step_mm`: between neighbours. `shifts`: for each of the ordered slices the rows and columns by which the gantry's tilt has
    shifted it, 0 or more. `tilt_degrees`: 0 where there is none. `lps`: for the array [column, row, slice] its LPS axes and directions, as
    in nibabel.orientations; None where the slices do not say how they lie. `to_lps`: from (column, row, slice) to the patient's mm, after
    the shifts; None where it is not known."""

    order: list[int]
    places: list[int]
    step_mm: float | None
    shifts: Float[np.ndarray, "n 2"]
    tilt_degrees: float
    lps: Int[np.ndarray, "3 2"] | None
    to_lps: Float[np.ndarray, "4 4"] | None = None

    @property
    def depth(self) -> int:
        """The number of slices with those that are missing."""
        return self.places[-1] + 1

    @property
    def margin(self) -> tuple[int, int]:
        """The rows and columns that the shifts need more than a slice has."""
        rows, columns = np.ceil(self.shifts.max(axis=0)).astype(int).tolist()
        return rows, columns


def arrange(planes: Sequence[Plane | None], pixel_mm: tuple[float, float] | None, stated_mm: float | None) -> Stack:
    """The stack of slices with these planes. Slices without planes stay in their order, `stated_mm` apart. `pixel_mm`: of rows and columns.

    Raises ReadError gap (more than two missing slices between two others), uneven (the distances vary), duplicate_positions,
    mixed_directions.
    """
    number = len(planes)
    known = [plane for plane in planes if plane is not None]
    if len(known) < number:
        return Stack(list(range(number)), list(range(number)), stated_mm, np.zeros((number, 2)), 0.0, None)
    directions = np.array([[plane.across, plane.down, plane.normal] for plane in known])
    if (np.einsum("nij,ij->ni", directions, directions[0])[:, (0, 1, 2)] < _SAME_DIRECTION).any():
        raise ReadError("mixed_directions: the slices lie in different directions")
    positions = np.array([plane.position for plane in known])
    x, y, n = directions[0]
    order = np.argsort(positions @ n, kind="stable")
    positions = positions[order]
    places, step_mm = _places(positions @ n)
    shifts, tilt = _shifts(positions, x, y, n, pixel_mm)
    to_lps = None
    if pixel_mm is not None:
        row_mm, column_mm = pixel_mm
        corner = positions[0] - shifts[0, 0] * row_mm * y - shifts[0, 1] * column_mm * x
        to_lps = np.vstack([np.stack([column_mm * x, row_mm * y, step_mm * n, corner], axis=1), [0, 0, 0, 1]])
    return Stack(order.tolist(), places, step_mm, shifts, tilt, _axes(x, y, n), to_lps)


def _places(along: Float[np.ndarray, " n"]) -> tuple[list[int], float]:
    """The place of each slice among those of the volume, and the distance of neighbours in mm: about the median of the distances or, as in
    a CT of the head with thinner slices below, about the least one."""
    steps = np.diff(along)
    if len(steps) == 0:
        return [0], 0.0
    if steps.min() < _SAME_PLACE_MM:
        raise ReadError("duplicate_positions: two slices lie at the same place")
    median, least = float(np.median(steps)), float(steps.min())
    for usual in (median, least):
        missing = np.where(steps > _GAP * usual, np.rint(steps / usual) - 1, 0).astype(int)
        places = np.concatenate([[0], np.cumsum(missing + 1)])
        step_mm = float(along[-1] - along[0]) / float(places[-1])
        even = np.abs(along - along[0] - places * step_mm).max() < _UNEVEN * step_mm
        if even and missing.max() <= _MOST_MISSING:
            return places.tolist(), step_mm
        if even and usual == median:
            raise ReadError(f"gap: {missing.max()} slices are missing between two others")
    raise ReadError(f"uneven: the slices lie {least:.3g} to {steps.max():.3g} mm apart")


def _shifts(
    positions: Float[np.ndarray, "n 3"],
    x: Float[np.ndarray, " 3"],
    y: Float[np.ndarray, " 3"],
    n: Float[np.ndarray, " 3"],
    pixel_mm: tuple[float, float] | None,
) -> tuple[Float[np.ndarray, "n 2"], float]:
    """The shifts of the slices in rows and columns, from 0 on, and the angle of the tilt in degrees; zeros where there is no tilt."""
    none = np.zeros((len(positions), 2)), 0.0
    if pixel_mm is None:
        return none
    mm = np.stack([positions @ y, positions @ x], axis=1)
    shifts = (mm - mm.min(axis=0)) / pixel_mm
    if shifts.max() < _SHIFT:
        return none
    length = float((positions[-1] - positions[0]) @ n)
    return shifts, math.degrees(math.atan2(float(np.linalg.norm(mm[-1] - mm[0])), length))


def _axes(x: Float[np.ndarray, " 3"], y: Float[np.ndarray, " 3"], n: Float[np.ndarray, " 3"]) -> Int[np.ndarray, "3 2"]:
    """The LPS axes of the array [column, row, slice], which are the closest ones to its own."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ np.stack([x, y, n], axis=1)  # from LPS, as in DICOM, to RAS, as in nibabel
    return ornt_transform(io_orientation(affine), axcodes2ornt("LPS")).astype(int)
