"""The kinds of images that medssl reads, one phantom of each: drawn here from simple shapes and noise, and taken from no patient.

All planes are float [SIZE, SIZE] in [0, 1]. Coordinates: x to the right and y downwards, both from -1 to 1.
"""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.figure import Figure

from medssl.data.phantom import radiograph

INK, MUTED = "#1b1f24", "#5b6470"
SIZE = 220  # pixels
Y, X = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
ANGLE, RADIUS = np.arctan2(Y, X), np.hypot(X, Y)


def ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0, soft: float = 0.03) -> np.ndarray:
    """1 inside, 0 outside, with an edge of width `soft`. `turn`: in radians."""
    u, v = (X - x) * np.cos(turn) + (Y - y) * np.sin(turn), (Y - y) * np.cos(turn) - (X - x) * np.sin(turn)
    return np.clip((1 - np.hypot(u / a, v / b)) * min(a, b) / soft + 0.5, 0, 1)


def noise(seed: int, scale: float) -> np.ndarray:
    """Smooth noise with mean 0 and standard deviation 1, whose structures are about `scale` pixels wide."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    white = np.fft.fft2(np.random.default_rng(seed).standard_normal((SIZE, SIZE)))
    plane = np.fft.ifft2(white * np.exp(-0.5 * (frequency * 2 * scale) ** 2)).real
    return (plane - plane.mean()) / plane.std()


def over(picture: np.ndarray, mask: np.ndarray, value: object) -> np.ndarray:
    """The picture with a value, or a colour, where the mask is 1."""
    mask = mask if picture.ndim == mask.ndim else mask[..., None]
    return picture * (1 - mask) + mask * np.asarray(value)


def ultrasound() -> np.ndarray:
    """A fan with speckle, layers of tissue, and a dark mass with a bright echo behind it."""
    depth, side = np.hypot(X, Y + 1.35), np.arctan2(X, Y + 1.35)
    tissue = 0.42 + 0.12 * np.sin(22 * depth + 1.5 * noise(1, 30)) * np.exp(-1.2 * (depth - 0.5)) + 0.05 * noise(2, 18)
    tissue = over(tissue, ellipse(0.1, 0.05, 0.34, 0.24, 0.2, 0.08), 0.1)
    tissue += 0.25 * ellipse(0.12, 0.52, 0.26, 0.34, 0, 0.15)
    speckle = (np.hypot(noise(3, 1.8), noise(4, 1.8)) / np.sqrt(np.pi / 2)) ** 0.6  # compressed, as on a screen
    fan = np.clip((0.56 - abs(side)) / 0.02, 0, 1) * np.clip((depth - 0.42) / 0.02, 0, 1) * np.clip((2.2 - depth) / 0.02, 0, 1)
    return np.clip(tissue * speckle * fan, 0, 1)


def ct() -> np.ndarray:
    """A slice through the chest in a soft-tissue window: fat, muscle, lungs, heart, aorta, spine and ribs."""
    picture = over(np.zeros_like(X), ellipse(0, 0, 0.94, 0.7), 0.3)
    picture = over(picture, ellipse(0, 0, 0.86, 0.62), 0.52)
    vessels = 0.03 + 0.55 * np.clip(noise(5, 2.5) - 1.3, 0, 1)
    for side in (-1, 1):
        lung = ellipse(side * 0.44, -0.02, 0.33, 0.47, -side * 0.12)
        picture = picture * (1 - lung) + vessels * lung
    picture = over(picture, ellipse(0.12, -0.16, 0.3, 0.25, 0.5), 0.6)
    picture = over(picture, ellipse(0.17, 0.27, 0.085, 0.085), 0.7)
    picture = over(picture, ellipse(-0.05, 0.06, 0.055, 0.065), 0.0)
    for angle in np.deg2rad([18, 42, 66, 114, 138, 162, 205, 232, 308, 335]):
        picture = over(picture, ellipse(0.8 * np.cos(angle), 0.57 * np.sin(angle), 0.09, 0.028, angle + np.pi / 2), 0.95)
    picture = over(picture, ellipse(0, 0.4, 0.13, 0.11), 0.88)
    picture = over(picture, ellipse(0, 0.55, 0.05, 0.14), 0.9)
    picture = over(picture, ellipse(0, 0.5, 0.05, 0.045), 0.5)
    return np.clip(picture + 0.02 * noise(6, 1.2), 0, 1)


def mr() -> np.ndarray:
    """A slice through the head, weighted by T2: skin, dark bone, bright fluid, grey and white matter, ventricles."""
    picture = over(np.zeros_like(X), ellipse(0, 0, 0.76, 0.94), 0.6)
    picture = over(picture, ellipse(0, 0, 0.7, 0.88), 0.06)
    picture = over(picture, ellipse(0, 0, 0.65, 0.83), 0.9)
    fold = 0.035 * np.sin(17 * ANGLE + 2 * noise(7, 16)) + 0.02 * noise(8, 7)
    inside = np.hypot(X / 0.62, Y / 0.8)
    picture = over(picture, np.clip((1 + 1.3 * fold - inside) / 0.03, 0, 1), 0.56)
    picture = over(picture, np.clip((0.83 + 2.6 * fold - inside) / 0.05, 0, 1), 0.36)
    picture = over(picture, np.clip((0.012 - abs(X)) / 0.01, 0, 1) * (inside < 0.98) * (abs(Y) > 0.28), 0.85)
    for side in (-1, 1):
        picture = over(picture, ellipse(side * 0.24, 0.02, 0.1, 0.17, side * 0.25, 0.05), 0.5)
        picture = over(picture, ellipse(side * 0.1, -0.16, 0.06, 0.2, side * 0.35), 0.95)
        picture = over(picture, ellipse(side * 0.13, 0.26, 0.05, 0.15, -side * 0.5), 0.95)
    return np.clip(picture + 0.02 * noise(9, 1.2), 0, 1)


def blood_cells() -> np.ndarray:
    """A blood smear: red cells with a pale centre, and one white cell with a lobed nucleus."""
    picture = np.ones((SIZE, SIZE, 3)) * (0.96, 0.9, 0.9) + 0.01 * noise(10, 20)[..., None]
    draw = np.random.default_rng(11)
    centres: list[tuple[float, float]] = [(0.18, 0.1)]
    for x, y in draw.uniform(-1.05, 1.05, (400, 2)):
        if all(np.hypot(x - u, y - v) > (0.6 if n == 0 else 0.37) for n, (u, v) in enumerate(centres)):
            centres.append((x, y))
            a, b = draw.uniform(0.16, 0.2, 2)
            picture = over(picture, 0.9 * ellipse(x, y, a, b), (0.85, 0.5, 0.52))
            picture = over(picture, 0.6 * ellipse(x, y, 0.5 * a, 0.5 * b, soft=0.1), (0.94, 0.76, 0.76))
    picture = over(picture, ellipse(*centres[0], 0.42, 0.4), (0.8, 0.74, 0.88))
    for x, y, a, b in ((0.02, 0.0, 0.17, 0.14), (0.28, -0.04, 0.15, 0.17), (0.18, 0.24, 0.2, 0.12), (0.16, 0.1, 0.12, 0.08)):
        picture = over(picture, ellipse(x, y, a, b, 0.4), (0.4, 0.22, 0.55))
    return np.clip(picture + 0.012 * noise(12, 1.5)[..., None], 0, 1)


def skin() -> np.ndarray:
    """A photograph of skin with a pigmented spot of uneven edge and colour."""
    picture = np.ones((SIZE, SIZE, 3)) * (0.9, 0.72, 0.62) + 0.02 * noise(13, 25)[..., None] + 0.012 * noise(14, 2)[..., None]
    edge = 0.52 + 0.07 * np.sin(3 * ANGLE + 1) + 0.04 * np.sin(7 * ANGLE) + 0.03 * noise(15, 8)
    spot = np.clip((edge - RADIUS) / 0.12, 0, 1)
    picture = over(picture, 0.9 * spot, (0.58, 0.36, 0.25))
    picture = over(picture, 0.75 * np.clip((edge - 0.2 - np.hypot(X + 0.08, Y - 0.06)) / 0.2, 0, 1), (0.3, 0.17, 0.12))
    picture = over(picture, 0.35 * spot * np.clip(noise(16, 4), 0, 1), (0.22, 0.12, 0.09))
    for offset in (-0.6, 0.75):
        hair = np.clip((0.012 - abs(Y - offset - 0.25 * X + 0.1 * X**2)) / 0.01, 0, 1)
        picture = over(picture, 0.7 * hair, (0.25, 0.17, 0.13))
    return np.clip(picture, 0, 1)


KINDS: Mapping[str, Callable[[], np.ndarray]] = {
    "radiograph": lambda: radiograph((3, 2), 0, SIZE, lesion=False),
    "ultrasound": ultrasound,
    "CT slice": ct,
    "MR slice": mr,
    "blood cells": blood_cells,
    "skin": skin,
}


def draw_kinds() -> Figure:
    """A strip of thumbnails with their names."""
    figure = Figure(figsize=(12.4, 2.5), facecolor="white")
    width = 1 / len(KINDS)
    for number, (name, draw) in enumerate(KINDS.items()):
        axes = figure.add_axes((number * width + 0.008, 0.16, width - 0.016, 0.82))
        axes.imshow(draw(), cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
        axes.axis("off")
        figure.text((number + 0.5) * width, 0.1, name, fontsize=12, color=INK, ha="center", va="center")
    figure.text(0.992, 0.02, "phantoms, drawn by a program: no patient", fontsize=8, color=MUTED, ha="right", va="center")
    return figure
