"""The picture of `medssl neighbours`: the query on the left, and the images most similar to it, the most similar first.

The picture shows no name of a file and no identity: patients are named by the first letters of their keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.report.theme import INK, MUTED, PAPER, SERIES, figure_style, shorten, to_png
from medssl.report.thumbnails import to_rgb

_COLUMNS = 4
_TILE, _CAPTION, _GAP, _MARGIN, _HEAD, _FOOT = 1.5, 0.8, 0.14, 0.25, 0.5, 0.2  # inches
_QUERY = 1.4  # tiles
_SMOOTH_FROM = 128  # pixels: those of smaller images stay visible squares
_LETTERS = 28  # of a caption


@dataclass(frozen=True)
class Shown:
    """An image of the store or the planes of a volume, uint8 or uint16 [C, H, W], with its caption: a heading and lines below it. `mark`: a
    last line in a colour."""

    image: np.ndarray
    heading: str
    lines: tuple[str, ...] = ()
    mark: str = ""


def neighbours_png(query: Shown, neighbours: Sequence[Shown], title: str, foot: str) -> bytes:
    """The picture as a PNG file. `title`: above the neighbours; `foot`: a sentence below all images."""
    from matplotlib.figure import Figure

    rows = -(-len(neighbours) // _COLUMNS)
    left, line = 2 * _MARGIN + _QUERY * _TILE + _GAP, _TILE + _CAPTION
    width = left + _COLUMNS * (_TILE + _GAP) - _GAP + _MARGIN
    height = _HEAD + max(rows * line, _QUERY * _TILE + _CAPTION) + _FOOT
    with figure_style():
        figure = Figure(figsize=(width, height), facecolor=PAPER)

        def place(shown: Shown, x: float, y: float, edge: float, colour: str) -> None:
            """Draw one image with its caption. `x`, `y`: of its upper left corner, in inches from that of the figure."""
            axes = figure.add_axes((x / width, 1 - (y + edge) / height, edge / width, edge / height))
            smooth = "antialiased" if max(shown.image.shape[1:]) >= _SMOOTH_FROM else "nearest"
            axes.imshow(to_rgb(shown.image), interpolation=smooth, aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=colour, linewidth=1.6 if colour == SERIES[0] else 0.6)
            words = [(shown.heading, INK, "bold"), *((text, MUTED, "normal") for text in shown.lines)]
            for number, (text, ink, weight) in enumerate([*words, *([(shown.mark, SERIES[1], "normal")] if shown.mark else [])]):
                below = y + edge + 0.16 + 0.145 * number
                figure.text(x / width, 1 - below / height, shorten(text, _LETTERS), color=ink, fontsize=8, weight=weight)

        figure.text(_MARGIN / width, 1 - 0.32 / height, "Query", color=INK, fontsize=10, weight="bold")
        figure.text(left / width, 1 - 0.32 / height, title, color=INK, fontsize=10, weight="bold")
        place(query, _MARGIN, _HEAD, _QUERY * _TILE, SERIES[0])
        for number, shown in enumerate(neighbours):
            place(shown, left + number % _COLUMNS * (_TILE + _GAP), _HEAD + number // _COLUMNS * line, _TILE, MUTED)
        figure.text(_MARGIN / width, 0.12 / height, foot, color=MUTED, fontsize=7.5)
        return to_png(figure)
