"""The planes of slices in the patient, and the order of slices in space. InstanceNumber is not enough: it may be absent, repeat, or run
in the other direction."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from pydicom.dataset import Dataset

from medssl.data.dicom.functional_groups import GROUPS
from medssl.data.dicom.marks import Marks

KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", *GROUPS)
_SAME_DIRECTION = 0.99  # the smallest cosine between the normals of two slices of one stack
_GAP = 1.5  # times the median distance between neighbours
_Vector = tuple[float, float, float]


class Plane(NamedTuple):
    """The plane of a slice in the patient's coordinates (PS3.3 C.7.6.2): the position of its first pixel in mm, its unit normal, and the
    directions in which the columns and the rows follow each other."""

    position: _Vector
    normal: _Vector
    across: _Vector
    down: _Vector


class Slice(NamedTuple):
    """A frame of a file, with everything that decides its order: its plane, its InstanceNumber (`number`), its file and its frame index;
    and its `marks`, by which several slices of one place are told apart."""

    plane: Plane | None
    number: int | None
    locator: str
    frame: int
    marks: Marks = ()


def planes(header: Dataset, frames: int) -> tuple[Plane | None, ...]:
    """The plane of each frame, from the frame's functional groups, the shared functional groups, or the header (PS3.3 C.7.6.16). None for
    a frame whose plane is not stated."""
    if not header.get(GROUPS[1]):
        return (plane(header, 0),) * frames
    return tuple(plane(header, index) for index in range(frames))


def plane(header: Dataset, index: int) -> Plane | None:
    """The plane of frame `index`, as in `planes`."""
    shared, per_frame = (header.get(name) or () for name in GROUPS)
    if per_frame and index >= len(per_frame):
        return None
    return _plane([header, *shared[:1], *per_frame[index : index + 1]])


def sort_slices(slices: Sequence[Slice]) -> list[Slice]:
    """The slices of one series, stack after stack (a stack has planes of one direction), each in its order along the normal, and slices at
    one position by InstanceNumber. Where a slice states no plane, all are ordered by InstanceNumber, file and frame."""
    stacks = dict(zip(slices, _along_normals(slices), strict=True)) if all_have_planes(slices) else {}
    return sorted(slices, key=lambda s: (stacks.get(s, ()), s.number is None, s.number or 0, s.locator, s.frame))


def stack_numbers(slices: Sequence[Slice]) -> list[int]:
    """For each of the sorted slices of a series the number of its volume. Slices of one volume have planes of one direction, each at
    another position. Where positions have several slices, as of two echoes or times, their marks say which of them belong together; where
    these do not, the first ones are a volume, and the second ones. Where all slices have one position, it is that of the file and not of a
    slice."""
    if not all_have_planes(slices) or len(set(_along_normals(slices))) == 1:
        return [0] * len(slices)
    places = [(direction, round(position, 2)) for direction, position in _along_normals(slices)]
    found, numbers, result = Counter[tuple[tuple[int, float], Marks]](), dict[tuple[int, Marks, int], int](), []
    for place, marks in zip(places, _telling_marks(slices, places), strict=True):
        result.append(numbers.setdefault((place[0], marks, found[place, marks]), len(numbers)))
        found[place, marks] += 1
    return result


def _telling_marks(slices: Sequence[Slice], places: Sequence[tuple[int, float]]) -> list[Marks]:
    """Of the marks of each slice those that tell volumes apart: that differ wherever several slices have one place, and have no more values
    than a place has slices. An acquisition number for each slice is no such mark."""
    at_place = defaultdict[tuple[int, float], list[Marks]](list)
    for s, place in zip(slices, places, strict=True):
        at_place[place].append(s.marks)
    most, shared = max(map(len, at_place.values())), [marks for marks in at_place.values() if len(marks) > 1]
    telling = [
        kind
        for kind in range(len(slices[0].marks))
        if len({s.marks[kind] for s in slices}) <= most and all(len({each[kind] for each in marks}) > 1 for marks in shared)
    ]
    return [tuple(s.marks[kind] for kind in telling) for s in slices]


def all_have_planes(slices: Sequence[Slice]) -> bool:
    """Whether the plane of every slice is known."""
    return all(s.plane is not None for s in slices)


def has_gap(slices: Sequence[Slice]) -> bool:
    """Whether two neighbours are farther apart than 1.5 times the median distance, as where a slice is missing."""
    stacks: dict[int, set[float]] = {}
    for stack, position in _along_normals(slices) if all_have_planes(slices) else ():
        stacks.setdefault(stack, set()).add(position)
    steps = [[after - before for before, after in pairwise(sorted(positions))] for positions in stacks.values()]
    return any(len(distances) > 1 and max(distances) > _GAP * median(distances) for distances in steps)


def _along_normals(slices: Sequence[Slice]) -> list[tuple[int, float]]:
    """For each slice the number of its stack (planes of one direction) and its position along the normal in mm, rounded to 0.001 mm."""
    normals: list[_Vector] = []
    found = []
    for s in slices:
        assert s.plane is not None
        stack = next((k for k, normal in enumerate(normals) if _dot(normal, s.plane.normal) > _SAME_DIRECTION), len(normals))
        if stack == len(normals):
            normals.append(s.plane.normal)
        found.append((stack, round(_dot(normals[stack], s.plane.position), 3)))
    return found


def _plane(groups: Sequence[Dataset]) -> Plane | None:
    """The plane by the last of the `groups` that state position and orientation. None where one is missing, malformed or not finite."""
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
    return Plane((x, y, z), (normal[0] / length, normal[1] / length, normal[2] / length), (a, b, c), (d, e, f))


def _dot(a: _Vector, b: _Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
