"""Where slices lie in the patient, and their order there. InstanceNumber alone may run against it, or be absent, or repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from pydicom.dataset import Dataset

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", *_GROUPS)
_SAME_PLANE = 0.99  # cosine between the normals of two slices that may belong to one stack
_GAP = 1.5  # of the median distance
_Vector = tuple[float, float, float]


class Place(NamedTuple):
    """The position of a slice's first pixel in mm, and the unit normal of its plane, in the patient's coordinates (PS3.3 C.7.6.2)."""

    position: _Vector
    normal: _Vector


class Slice(NamedTuple):
    """A frame of a file: where it lies, and what else orders it."""

    place: Place | None
    number: int | None
    locator: str
    frame: int


def places(header: Dataset, frames: int) -> tuple[Place | None, ...]:
    """The place of each frame: from its functional groups, those that all frames share, or the header itself (PS3.3 C.7.6.16)."""
    shared, own = (header.get(name) or () for name in _GROUPS)
    everywhere = [header, *shared[:1]]
    if not own:
        return (_place(everywhere),) * frames
    return tuple(_place([*everywhere, own[index]]) if index < len(own) else None for index in range(frames))


def sort_slices(slices: Sequence[Slice]) -> list[Slice]:
    """One series by position along the normal of its plane, stacks of other planes behind it, and within one position by
    InstanceNumber; by InstanceNumber, file and frame where a slice does not say where it lies."""
    stacks = dict(zip(slices, _along_normals(slices), strict=True)) if all_placed(slices) else {}
    return sorted(slices, key=lambda s: (stacks.get(s, ()), s.number is None, s.number or 0, s.locator, s.frame))


def all_placed(slices: Sequence[Slice]) -> bool:
    """Whether all slices say where they lie."""
    return all(s.place is not None for s in slices)


def has_gap(slices: Sequence[Slice]) -> bool:
    """Whether two neighbours lie farther apart than one and a half times the median distance, as where a slice is missing."""
    stacks: dict[int, set[float]] = {}
    for stack, position in _along_normals(slices) if all_placed(slices) else ():
        stacks.setdefault(stack, set()).add(position)
    steps = [[after - before for before, after in pairwise(sorted(positions))] for positions in stacks.values()]
    return any(len(distances) > 1 and max(distances) > _GAP * median(distances) for distances in steps)


def _along_normals(slices: Sequence[Slice]) -> list[tuple[int, float]]:
    """For each slice the number of its stack (planes of one direction) and its position along the normal, to a micrometre."""
    normals: list[_Vector] = []
    found = []
    for s in slices:
        assert s.place is not None
        stack = next((k for k, normal in enumerate(normals) if _dot(normal, s.place.normal) > _SAME_PLANE), len(normals))
        if stack == len(normals):
            normals.append(s.place.normal)
        found.append((stack, round(_dot(normals[stack], s.place.position), 3)))
    return found


def _place(groups: Sequence[Dataset]) -> Place | None:
    """From the last of the groups that state position and orientation; None where one is missing, malformed or not finite."""
    position = orientation = None
    for group in groups:
        for macro in (group, *(group.get("PlanePositionSequence") or ())[:1]):
            position = macro.get("ImagePositionPatient") or position
        for macro in (group, *(group.get("PlaneOrientationSequence") or ())[:1]):
            orientation = macro.get("ImageOrientationPatient") or orientation
    try:
        x, y, z = (float(part) for part in position or ())
        a, b, c, d, e, f = (float(part) for part in orientation or ())
    except (TypeError, ValueError):
        return None
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*normal)
    if not math.isfinite(length + x + y + z) or length < 1e-6:
        return None
    return Place((x, y, z), (normal[0] / length, normal[1] / length, normal[2] / length))


def _dot(a: _Vector, b: _Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
