"""How all figures of the report are drawn: by matplotlib, once, and kept as SVG for the page and as PNG for a tracker.

In the SVG every colour is a CSS variable of the page, so that a figure follows light and dark, and text stays text. Colours begin with
those of Okabe and Ito; what they tell is told by a marker's shape or a line's dashes as well.
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
MARKERS = "osD^vPX*"  # one more than colours: sixteen things differ in one or the other
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2)), (0, (2, 2)))
DOTTED = (0, (2, 3))
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {c: f"--series-{i}" for i, c in enumerate(SERIES)}
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "svg.fonttype": "none",
}
_DPI = 200
_LONGEST = 30
_ROW = 0.17  # inches of a legend's row


@dataclass(frozen=True)
class Chart:
    """A figure, its layout settled (`settled`), and what is made of it. `salt` keeps the ids of two figures on one page apart."""

    figure: "Figure"
    salt: str

    @property
    def svg(self) -> str:
        """As an `<svg>` element to stand inside the page."""
        return svg(self.figure, self.salt)

    @property
    def png(self) -> bytes:
        """For a tracker, on white."""
        return png(self.figure)


def blank(size: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any) -> tuple["Figure", Any]:
    """A figure of `size` inches and its axes, without frame and ticks. To be drawn on inside `style()`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    axes: Any = figure.subplots(rows, columns, subplot_kw={"facecolor": PAPER}, **options)
    for each in [axes] if rows == columns == 1 else axes.flat:
        each.tick_params(colors=MUTED, labelcolor=MUTED, length=0, pad=6)
        each.spines[["top", "right", "left"]].set_visible(False)
        each.set_axisbelow(True)
    return figure, axes


def style() -> Any:
    """The context in which figures are drawn and saved."""
    from matplotlib import rc_context

    return rc_context(_STYLE)


def settled(figure: "Figure", salt: str) -> Chart:
    """The figure as a chart. Each drawing would move the parts of a figure a little; this one's stay, so that it can be saved twice."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()  # axes of a fixed shape find their place at the second time
    figure.set_layout_engine("none")
    return Chart(figure, salt)


def titled(axes: "Axes", title: str, x: str = "", y: str = "") -> None:
    """Title at the left, axes named in the muted colour."""
    axes.set_title(title, loc="left", color=INK, fontsize=9)
    axes.set_xlabel(x, color=MUTED)
    axes.set_ylabel(y, color=MUTED)


def legend(figure: "Figure", handles: Sequence[Any], names: Sequence[str], columns: int = 1) -> None:
    """Names below the figure, which grows by their room."""
    figure.set_figheight(figure.get_figheight() + _ROW * -(-len(names) // columns))
    said = [f"\N{ZERO WIDTH SPACE}{name}" for name in names]  # matplotlib leaves out a name that begins with an underscore
    figure.legend(
        list(handles), said, loc="outside lower left", ncols=columns, frameon=False, labelcolor=INK, fontsize=8.5, handlelength=2.4,
        columnspacing=1.2,
    )  # fmt: skip


def short(name: str, longest: int = _LONGEST) -> str:
    """A foreign name in the room that a figure has."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def png(figure: "Figure") -> bytes:
    """For a tracker, on white."""
    return _saved(figure, format="png", dpi=_DPI)


def svg(figure: "Figure", salt: str) -> str:
    """As an `<svg>` element to stand inside a page."""
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
