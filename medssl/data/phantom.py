"""Drawing synthetic frontal chest radiographs: sums of attenuation along the ray, from shapes with an anatomy that varies by patient.

Coordinates: x (u) to the viewer's right, which is the patient's left, and y (v) downwards, both from -1 to 1 over the image. Lengths
are in these units. All randomness is a function of the keys. The shapes are the author's; nothing is taken from a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Literal

import numpy as np
from jaxtyping import Float32
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

Plane = Float32[np.ndarray, "size size"]
Finding = Literal["nodule", "interstitial"]

_SEVERITY = 0.25, 0.6  # attenuation of the threads of an interstitial pattern, from mild to severe
_MESH = 0.1  # the width of one of its meshes; a lung is six times as wide
_THREAD = 0.15  # how thick its threads are, against the spaces between them
_WAVES = 12


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What stays the same over a patient's images. `nodules`: rows (u, v, sigma, attenuation). `mesh`: the attenuation of the threads of
    an interstitial pattern, 0 for none."""

    width: float  # of the rib cage against the average
    height: float
    habitus: float  # soft tissue in front of everything: 0 thin, 1 thick
    heart: float  # size against the average
    ribs: float  # phase of the first rib, in units of the spacing
    spacing: float  # of the ribs
    slope: float  # how far ribs descend to the side
    breasts: float  # attenuation, 0 for none
    aorta: float
    nodules: tuple[tuple[float, float, float, float], ...]
    mesh: float = 0.0


def anatomy(patient_key: Sequence[int], lesion: bool, finding: Finding = "nodule") -> Anatomy:
    """The anatomy of a patient; with `lesion`, one to three nodules in the lungs, or an interstitial pattern all over them."""
    draw = np.random.default_rng([*patient_key, 1])
    plain = Anatomy(
        width=draw.normal(1, 0.045),
        height=draw.normal(1, 0.04),
        habitus=draw.beta(2, 3),
        heart=draw.normal(1, 0.11),
        ribs=draw.uniform(-0.5, 0.5),
        spacing=draw.normal(0.152, 0.008),
        slope=draw.normal(1, 0.15),
        breasts=draw.uniform(0.04, 0.13) * int(draw.integers(2)),
        aorta=draw.normal(1, 0.15),
        nodules=(),
    )
    if not lesion:
        return plain
    if finding == "interstitial":
        return replace(plain, mesh=np.random.default_rng([*patient_key, 7]).uniform(*_SEVERITY))
    return replace(plain, nodules=_nodules(plain, patient_key))


def radiograph(
    patient_key: Sequence[int], image_key: int, size: int, lesion: bool, finding: Finding = "nodule", variation: float = 1
) -> Plane:
    """A frontal chest radiograph, float32 [size, size] in [0, 1], brighter where more is absorbed.

    `patient_key` fixes the anatomy and, with `lesion`, what is found; `image_key` the positioning, the depth of the breath and the quantum
    noise. A nodule is round and soft, and there are one to three. An interstitial pattern is a mesh of fine threads all over both lungs,
    which lies elsewhere in each patient: a texture, not a place. `variation`: how much position, turn and zoom differ from image to image.
    """
    a = anatomy(patient_key, lesion, finding)
    draw = np.random.default_rng([*patient_key, 2, image_key])
    angle, zoom = draw.normal(0, 0.025 * variation), draw.normal(0.90, 0.025 * variation)
    shift = draw.normal((0.0, -0.07), 0.025 * variation)
    breath = draw.normal(0, 0.04)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    u = (turn[0, 0] * x + turn[0, 1] * y + shift[0]).astype(np.float32)
    v = (turn[1, 0] * x + turn[1, 1] * y + shift[1]).astype(np.float32)

    depth = lung_depth(u, v, a, breath)
    organs = _mediastinum(u, v, a)
    air = _step(depth / 0.012) * (1 - np.exp(-np.maximum(depth, 0) / 0.10)) * (1 - 0.72 * organs)
    vessels = _vessels(patient_key, turn, shift, size)
    total = _soft_tissue(u, v, a, breath) - 0.52 * air + 0.10 * organs * _step((depth + 0.05) / 0.05)
    total += _bones(u, v, a, air) - 0.14 * _windpipe(u, v)
    total += air * (0.20 * vessels + 0.035 * _clouds(np.random.default_rng([*patient_key, 3]), 24, size))
    for centre_u, centre_v, sigma, attenuation in a.nodules:
        total += attenuation * np.exp(-((u - centre_u) ** 2 + (v - centre_v) ** 2) / (2 * sigma**2)).astype(np.float32)
    if a.mesh:
        total += a.mesh * air * _mesh(u, v, patient_key)
    total += 0.05 * _clouds(draw, 4, size)
    grain = draw.standard_normal((size, size), dtype=np.float32)
    total += 0.016 * np.exp(0.6 * total) * grain  # fewer quanta behind more tissue
    total = np.maximum(total, 0)
    return (1.12 * (1 - np.exp(-1.75 * total * np.sqrt(total)))).clip(0, 1).astype(np.float32)


def lung_depth(u: np.ndarray, v: np.ndarray, a: Anatomy, breath: float = 0) -> np.ndarray:
    """How far inside a lung a point lies, in image units; negative outside."""
    side = np.abs(u)
    hilum = 0.13 + 0.05 * np.exp(-((v + 0.62) ** 2) / 0.03)
    flank, midline = np.maximum(side - 0.36, 0), np.maximum(0.36 - side, 0)
    dome = 0.44 + breath + 0.025 * (1 + np.sign(u)) + 2.3 * flank * flank + 0.8 * midline * midline
    return np.minimum(np.minimum(_cage(v, a) - side, side - hilum), (dome * a.height - v) * 0.9)


def _cage(v: np.ndarray, a: Anatomy) -> np.ndarray:
    """Half the inner width of the rib cage at height v."""
    t = np.clip((v / a.height + 0.80) / 1.5, 0, 1)
    return 0.80 * a.width * np.sqrt(1 - (1 - t) ** 2.6) - 0.02


def _nodules(a: Anatomy, patient_key: Sequence[int]) -> tuple[tuple[float, float, float, float], ...]:
    """Within the lungs, not in front of the heart or at the chest wall, where a nodule could hardly be seen."""
    draw = np.random.default_rng([*patient_key, 4])
    result = []
    wanted = draw.integers(1, 4)
    while len(result) < wanted:
        u, v, sigma, attenuation = draw.uniform((-0.75, -0.6, 0.05, 0.25), (0.75, 0.4, 0.085, 0.38)).tolist()
        at = np.array(u), np.array(v)
        if lung_depth(*at, a) > 0.08 and _mediastinum(*at, a) < 0.3:
            result.append((u, v, sigma, attenuation))
    return tuple(result)


def _mesh(u: np.ndarray, v: np.ndarray, patient_key: Sequence[int]) -> np.ndarray:
    """Threads around meshes of about a sixth of a lung's width: where a sum of plane waves of one wavelength, with random directions and
    phases, is near zero. Their mean is taken away: the lung is as dense as without them, or its brightness alone would tell."""
    draw = np.random.default_rng([*patient_key, 8])
    waves = np.zeros_like(u)
    for direction, phase in zip(draw.uniform(0, pi, _WAVES), draw.uniform(0, 2 * pi, _WAVES), strict=True):
        waves += np.cos(pi / _MESH * (u * cos(direction) + v * sin(direction)) + phase, dtype=np.float32)
    threads = np.exp(-waves * waves / (_THREAD * _WAVES))
    return threads - (_THREAD / (_THREAD + 1)) ** 0.5  # the mean where `waves` is normal, with a variance of half their number


def _soft_tissue(u: np.ndarray, v: np.ndarray, a: Anatomy, breath: float) -> np.ndarray:
    """Neck, shoulders, trunk and what lies below the diaphragm; nothing beside them."""
    shoulder = _smooth((v + 1.0) / 0.42)
    half = 0.30 + shoulder * (1.02 + 0.06 * a.habitus - 0.30) - 0.10 * _smooth((v + 0.45) / 0.5) * (1 - a.habitus)
    inside = np.clip(1 - (u / half) ** 2, 0, 1)
    trunk = (0.62 + 0.16 * a.habitus) * np.sqrt(inside)
    trunk = trunk + 0.10 * (1 - _smooth((v + 0.75) / 0.35)) * (inside > 0)
    belly = 0.16 * _smooth((v - 0.42 - breath) / 0.3) * np.sqrt(inside)
    breast = 0
    for sign in (-1, 1) if a.breasts else ():
        r = np.sqrt(((u - sign * 0.47) / 0.38) ** 2 + ((v - 0.28) / 0.33) ** 2)
        breast = breast + a.breasts * np.sqrt(np.clip(1 - r**2, 0, 1)) * _smooth((v + 0.1) / 0.3)
    stomach = -0.16 * _ellipse(u, v, 0.36, 0.66, 0.15, 0.07, 0)
    return (trunk + belly + breast + stomach).astype(np.float32)


def _mediastinum(u: np.ndarray, v: np.ndarray, a: Anatomy) -> np.ndarray:
    """Heart and great vessels, which take the place of air: from 0 to 1."""
    heart = _blob(u, v, 0.16, 0.26 + 0.3 * (1 - a.heart), 0.25 * a.heart, 0.35 * a.heart, 0.75)
    atrium = _blob(u, v, -0.07, 0.22, 0.15 * a.heart, 0.27, 0)
    trunk = _blob(u, v, 0.07, -0.02, 0.15, 0.30, 0)  # pulmonary trunk and left auricle
    knob = _blob(u, v, 0.09, -0.27, 0.115 * a.aorta, 0.11, 0)
    vein = _blob(u, v, -0.05, -0.25, 0.11, 0.40, 0)
    hila = np.maximum(_ellipse(u, v, -0.20, -0.02, 0.09, 0.15, 0.3), _ellipse(u, v, 0.21, -0.06, 0.08, 0.13, -0.3))
    parts = (heart, atrium, 0.9 * trunk, 0.9 * knob, 0.8 * vein, 0.4 * hila)
    return 1 - np.prod([1 - part for part in parts], axis=0, dtype=np.float32)


def _windpipe(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _smooth(1.6 - np.abs(u + 0.01) / 0.028) * (1 - _smooth((v + 0.24) / 0.12))


def _bones(u: np.ndarray, v: np.ndarray, a: Anatomy, air: np.ndarray) -> np.ndarray:
    side = np.abs(u)
    cage = _cage(v, a) + 0.05
    across = np.clip(side / cage, 0, 1)
    within = _step((cage - side) / 0.015) * _smooth((v + 0.80) / 0.1) * (1 - _smooth((v - 0.55) / 0.3))
    visible = within * (0.35 + 0.65 * air)
    behind = v - 0.26 * a.slope * across**2.4 + 0.03 * np.exp(-(((side - 0.2) / 0.12) ** 2))
    front = v + 0.40 * a.slope * (across - 0.15) ** 1.0 - 0.10
    ribs = 0.13 * _tubes(behind, a, 0.031) * _step((side - 0.06) / 0.01)
    ribs = ribs + 0.065 * _tubes(front, a, 0.036) * _smooth((across - 0.35) / 0.25)
    vertebrae = 0.085 + 0.035 * np.cos(2 * np.pi * v / 0.125) + 0.02 * np.cos(2 * np.pi * u / 0.07)
    spine = _step((0.075 - side) / 0.012) * vertebrae
    reach = np.clip((side - 0.10) / 0.66, 0, 1)
    along = v + 0.47 + 0.24 * reach - 0.04 * np.sin(2 * np.pi * reach)
    clavicles = 0.16 * _tube(along / (0.045 - 0.014 * np.sin(np.pi * reach))) * _step((side - 0.105) / 0.012) * _step((0.80 - side) / 0.02)
    shoulders = 0.13 * _ellipse(side, v, 1.0, -0.58, 0.20, 0.18, 0)
    blade = _step((side - 0.64 - 0.14 * (v + 0.3)) / 0.012) * _smooth((v + 0.72) / 0.15) * (1 - _smooth((v + 0.1) / 0.25))
    return (visible * ribs + spine + clavicles + shoulders + 0.07 * blade).astype(np.float32)


def _tubes(height: np.ndarray, a: Anatomy, radius: float) -> np.ndarray:
    """Ribs: tubes at regular heights, of which a coordinate that follows the rib is given."""
    turns = height / a.spacing - a.ribs
    return _tube((turns - np.round(turns)) * a.spacing / radius)


def _tube(offset: np.ndarray) -> np.ndarray:
    """A hollow tube seen from the side, by the distance from its axis in radii: bright at its walls."""
    r2 = offset**2
    outer, inner = np.sqrt(np.clip(1 - r2, 0, 1)), np.sqrt(np.clip(0.64 - r2, 0, 1))
    return outer - 0.55 * inner


def _ellipse(u: np.ndarray, v: np.ndarray, centre_u: float, centre_v: float, half_u: float, half_v: float, angle: float) -> np.ndarray:
    """The path length through an ellipsoid, 1 at its centre."""
    du, dv = u - centre_u, v - centre_v
    c, s = np.cos(angle), np.sin(angle)
    return np.sqrt(np.clip(1 - ((c * du - s * dv) / half_u) ** 2 - ((s * du + c * dv) / half_v) ** 2, 0, 1))


def _blob(u: np.ndarray, v: np.ndarray, centre_u: float, centre_v: float, half_u: float, half_v: float, angle: float) -> np.ndarray:
    """As an ellipsoid with a flatter top: organs are thick up to near their border."""
    return np.sqrt(_ellipse(u, v, centre_u, centre_v, half_u, half_v, angle))


def _vessels(patient_key: Sequence[int], turn: np.ndarray, shift: np.ndarray, size: int) -> Plane:
    """Trees of vessels that leave the hila and thin out, [size, size] in [0, 1]."""
    draw = np.random.default_rng([*patient_key, 5])
    picture = Image.new("L", (size, size))
    pen = ImageDraw.Draw(picture)
    half = (size - 1) / 2
    (a, b), (c, d) = (np.linalg.inv(turn) * half).tolist()
    shift_u, shift_v = shift.tolist()

    def pixel(u: float, v: float) -> tuple[float, float]:
        u, v = u - shift_u, v - shift_v
        return a * u + b * v + half, c * u + d * v + half

    def grow(u: float, v: float, angle: float, width: float, length: float) -> None:
        if width < 0.005:
            return
        end = u + length * cos(angle), v + length * sin(angle)
        pen.line([pixel(u, v), pixel(*end)], fill=int(min(255, 40 + 6000 * width)), width=max(1, round(width * size / 2)))
        bends, widths, lengths = draw.normal(0.32, 0.15, 2), draw.uniform(0.65, 0.82, 2), draw.uniform(0.75, 0.95, 2)
        grow(*end, angle + float(bends[0]), width * float(widths[0]), length * float(lengths[0]))
        grow(*end, angle - float(bends[1]), width * float(widths[1]), length * float(lengths[1]))

    for sign in (-1, 1):
        for angle in (np.linspace(-1.25, 1.25, 6) + draw.normal(0, 0.12, 6)).tolist():
            grow(sign * 0.15, -0.02, angle if sign > 0 else pi - angle, draw.uniform(0.016, 0.026), draw.uniform(0.12, 0.17))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(size / 300)), np.float32) / 255


def _clouds(draw: Generator, grid: int, size: int) -> Plane:
    """Smooth noise of unit variance at its grid's points, the grid laid over the image."""
    values = draw.standard_normal((grid, grid), dtype=np.float32)
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


def _smooth(t: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _step(t: np.ndarray) -> np.ndarray:
    """From 0 to 1 over about t = -2 to 2."""
    return _smooth((t + 2) / 4)
