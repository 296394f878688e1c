"""The style of all figures: matplotlib draws each figure once; the page takes it as SVG, a tracker as PNG.

In the SVG every colour is a CSS variable of the page, so that a figure follows the light and the dark scheme. Text stays text. The first
colours are those of Okabe and Ito. What a colour shows is also shown by the shape of a marker or by the dashes of a line.
"""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1b1f24", "#5b6470", "#d9dde2", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a2b")
MARKERS = "osD^vPX*"  # 7 colours and 8 markers: 56 series differ in one of them
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2)), (0, (2, 2)))
REFERENCE_LINE: dict[str, Any] = {"color": MUTED, "linewidth": 1, "linestyle": (0, (2, 3))}
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {c: f"--series-{i}" for i, c in enumerate(SERIES)}
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "svg.fonttype": "none",
}
_DPI = 200
_MAX_NAME = 30  # characters
_LEGEND_ROW = 0.17  # inches
_UNFILLED = "x+"
_MARKER_PATHS = {  # in a box of 34 by 12
    "o": "M17 2.2a3.8 3.8 0 1 0 .01 0z",
    "s": "M13.6 2.6h6.8v6.8h-6.8z",
    "D": "M17 1.2l4.8 4.8-4.8 4.8-4.8-4.8z",
    "^": "M17 1.6l4.6 8h-9.2z",
    "v": "M17 10.4l4.6-8h-9.2z",
    "P": "M15.6 1.6h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z",
    "X": "M14.6 1.6 17 4l2.4-2.4 2 2L19 6l2.4 2.4-2 2L17 8l-2.4 2.4-2-2L15 6l-2.4-2.4z",
    "*": "M17 .8l1.3 3.5 3.7.2-2.9 2.3 1 3.6-3.1-2-3.1 2 1-3.6-2.9-2.3 3.7-.2z",
    "x": "M13.8 2.8l6.4 6.4M20.2 2.8l-6.4 6.4",
    "+": "M17 1.6v8.8M12.6 6h8.8",
}


@dataclass(frozen=True)
class SeriesStyle:
    """Colour, marker and line of one series, in the figures and in the keys of tables."""

    colour: str
    marker: str
    dotted: bool = False

    @property
    def variable(self) -> str:
        """The CSS variable of the colour."""
        return _VARIABLES[self.colour]

    @property
    def marker_path(self) -> str:
        """The marker as an SVG path in a box of 34 by 12."""
        return _MARKER_PATHS[self.marker]

    @property
    def filled(self) -> bool:
        return self.marker not in _UNFILLED

    @property
    def marker_edge(self) -> dict[str, Any]:
        """Options for matplotlib: a filled marker has an edge in the colour of the paper."""
        return {"markeredgecolor": PAPER, "markeredgewidth": 0.8} if self.filled else {}


def series_style(number: int) -> SeriesStyle:
    """The style of a series by its number: no two of the first 56 are the same."""
    return SeriesStyle(SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)])


@dataclass(frozen=True)
class Chart:
    """A figure with a fixed layout (`fix_layout`). `salt` keeps the ids of two figures on one page apart."""

    figure: "Figure"
    salt: str

    @property
    def svg(self) -> str:
        """An `<svg>` element for the page."""
        return to_svg(self.figure, self.salt)

    @property
    def png(self) -> bytes:
        """For a tracker, on white."""
        return to_png(self.figure)


def new_figure(size: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any) -> tuple["Figure", Any]:
    """A figure of `size` inches and its axes, without frame and ticks. Draw on it inside `figure_style()`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    axes: Any = figure.subplots(rows, columns, subplot_kw={"facecolor": PAPER}, **options)
    for each in [axes] if rows == columns == 1 else axes.flat:
        each.tick_params(colors=MUTED, labelcolor=MUTED, length=0, pad=6)
        each.spines[["top", "right", "left"]].set_visible(False)
        each.set_axisbelow(True)
    return figure, axes


def figure_style() -> Any:
    """The context in which figures are drawn and saved."""
    from matplotlib import rc_context

    return rc_context(_STYLE)


def fix_layout(figure: "Figure", salt: str) -> Chart:
    """The figure as a chart. Every drawing moves the parts of a figure a little; afterwards they stay, so that PNG and SVG are alike."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()  # axes of a fixed shape find their place at the second time
    figure.set_layout_engine("none")
    return Chart(figure, salt)


def label_axes(axes: "Axes", title: str, x: str = "", y: str = "") -> None:
    """Title at the left, names of the axes in the muted colour."""
    axes.set_title(title, loc="left", color=INK, fontsize=9)
    axes.set_xlabel(x, color=MUTED)
    axes.set_ylabel(y, color=MUTED)


def add_legend(figure: "Figure", handles: Sequence[Any], names: Sequence[str], columns: int = 1) -> None:
    """Names below the figure, which becomes higher by their rows."""
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * -(-len(names) // columns))
    shown = [f"\N{ZERO WIDTH SPACE}{name}" for name in names]  # matplotlib leaves out a name that begins with an underscore
    figure.legend(
        list(handles), shown, loc="outside lower left", ncols=columns, frameon=False, labelcolor=INK, fontsize=8.5, handlelength=2.4,
        columnspacing=1.2,
    )  # fmt: skip


def shorten(name: str, most: int = _MAX_NAME) -> str:
    """The name, cut to `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def to_png(figure: "Figure") -> bytes:
    """For a tracker, on white."""
    return _saved(figure, format="png", dpi=_DPI)


def to_svg(figure: "Figure", salt: str) -> str:
    """An `<svg>` element for the page."""
    text = _saved(figure, format="svg", salt=salt).decode()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", text[: text.index(">")]) + text[text.index(">") :]
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # matplotlib's names of parts, the same in every figure
    text = re.sub(r'(?<= [xy]=")(-?\d+\.\d)\d+(?=")', r"\1", text)
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def _saved(figure: "Figure", *, salt: str = "", **options: Any) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context(_STYLE | {"svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script of its own: the reader's browser has the font
        figure.savefig(buffer, **options)
    return buffer.getvalue()
