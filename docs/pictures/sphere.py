"""An embedding, its nearest row of the support set and its pseudo nearest neighbours, on the unit circle."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

BLUE, GREEN, ORANGE, GREY = "#1f5fa8", "#2d7d46", "#c05f16", "#9aa5b1"
_Z, _NN = np.deg2rad(112), np.deg2rad(38)
_OTHERS = np.deg2rad([4, 164, 187, 221, 258, 292, 331])
_PSEUDO = 14


def draw_sphere(axes: Axes, *, words: bool = True) -> None:
    """Draw on `axes`; `words`: with the explanations beside the points."""
    axes.add_patch(Circle((0, 0), 1, fill=False, color=GREY, lw=1.2))
    axes.scatter(*_at(_OTHERS), s=42, color=GREY, zorder=3)
    z, nn = _at(_Z), _at(_NN)
    axes.plot(*zip(z, nn, strict=True), color="#486581", lw=1.2, ls="--")
    draw = np.random.default_rng(4)
    alpha = draw.uniform(0.5, 1.0, _PSEUDO)
    points = np.array(z) + alpha[:, None] * (np.array(nn) - z)
    angles = np.arctan2(points[:, 1], points[:, 0]) + 0.05 * draw.standard_normal(_PSEUDO)
    axes.scatter(*_at(angles), s=46, color="#e8833a", alpha=0.75, zorder=4)
    half = [0.4 * a + 0.6 * b for a, b in zip(z, nn, strict=True)]
    arrow = {"arrowstyle": "->", "color": "#e8833a", "lw": 1.4}
    axes.annotate("", _at(np.arctan2(half[1], half[0]), 0.985), (half[0], half[1]), arrowprops=arrow)
    axes.scatter(*z, s=80, color=BLUE, zorder=5)
    axes.scatter(*nn, s=80, color=GREEN, zorder=5)
    if words:
        axes.annotate("z, the embedding of one view", z, (-1.28, 1.18), color=BLUE, ha="left")
        axes.annotate("nn(z), its nearest row of Q", nn, (0.86, 0.70), color=GREEN, ha="left")
        text = "pnn(z): a step alpha on the way,\nscattered, back on the sphere"
        axes.annotate(text, _at(np.deg2rad(68), 1.08), color=ORANGE, ha="left")
        axes.annotate("other rows of the support set Q", _at(_OTHERS[2], 1.05), (-0.72, -0.28), color="#52606d", ha="left")
        axes.annotate("", _at(_OTHERS[2], 0.96), (-0.74, -0.22), arrowprops={"arrowstyle": "-", "color": GREY})
    axes.set(xlim=(-1.35, 2.0) if words else (-1.15, 1.15), ylim=(-1.12, 1.35), aspect="equal")
    axes.axis("off")


def _at(angle: Any, radius: float = 1.0) -> Any:
    """The point at that angle, as (x, y)."""
    return radius * np.cos(angle), radius * np.sin(angle)
