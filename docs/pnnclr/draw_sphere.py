"""Draws docs/pnnclr/sphere.svg: an embedding, its hard neighbour and its pseudo neighbours on the unit circle.

python docs/pnnclr/draw_sphere.py
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Circle

Z, NN = np.deg2rad(112), np.deg2rad(38)
OTHERS = np.deg2rad([4, 164, 187, 221, 258, 292, 331])


def at(angle: Any, radius: float = 1.0) -> Any:
    """The point at that angle, as (x, y)."""
    return radius * np.cos(angle), radius * np.sin(angle)


def main() -> None:
    mpl.rcParams.update({"svg.hashsalt": "medssl", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11})
    figure, axes = plt.subplots(figsize=(6.4, 4.6))
    axes.add_patch(Circle((0, 0), 1, fill=False, color="#9aa5b1", lw=1.2))
    axes.scatter(*at(OTHERS), s=42, color="#9aa5b1", zorder=3)
    z, nn = at(Z), at(NN)
    axes.plot(*zip(z, nn, strict=True), color="#486581", lw=1.2, ls="--")
    draw = np.random.default_rng(4)
    alpha = draw.uniform(0.5, 1.0, 14)
    points = np.array(z) + alpha[:, None] * (np.array(nn) - z)
    angles = np.arctan2(points[:, 1], points[:, 0]) + 0.05 * draw.standard_normal(14)
    axes.scatter(*at(angles), s=46, color="#e8833a", alpha=0.75, zorder=4)
    half = [0.4 * a + 0.6 * b for a, b in zip(z, nn, strict=True)]
    axes.annotate(
        "", at(np.arctan2(half[1], half[0]), 0.985), (half[0], half[1]), arrowprops={"arrowstyle": "->", "color": "#e8833a", "lw": 1.4}
    )
    axes.scatter(*z, s=80, color="#1f5fa8", zorder=5)
    axes.scatter(*nn, s=80, color="#2d7d46", zorder=5)
    axes.annotate("z, the embedding of one view", z, (-1.28, 1.18), color="#1f5fa8", ha="left")
    axes.annotate("nn(z), its nearest row of Q", nn, (0.86, 0.70), color="#2d7d46", ha="left")
    axes.annotate("pnn(z): a step alpha on the way,\nscattered, back on the sphere", at(np.deg2rad(68), 1.08), color="#c05f16", ha="left")
    axes.annotate("other rows of the support set Q", at(OTHERS[2], 1.05), (-0.72, -0.28), color="#52606d", ha="left")
    axes.annotate("", at(OTHERS[2], 0.96), (-0.74, -0.22), arrowprops={"arrowstyle": "-", "color": "#9aa5b1"})
    axes.set(xlim=(-1.35, 2.0), ylim=(-1.12, 1.35), aspect="equal")
    axes.axis("off")
    figure.savefig(Path(__file__).with_name("sphere.svg"), bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
