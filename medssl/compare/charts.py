"""The small multiples of a comparison: AUROC over the number of labels, one chart for each data set and mode, one line an encoder.

Drawn as `figures` draws the chart of one run: matplotlib's SVG with the page's CSS variables for colours, its text left as text. An encoder
has one colour, marker and dash in all charts; baselines are grey.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medssl.compare.runs import Line, Panel
from medssl.report.figures import INK, LINE, MARKERS, MUTED, PAPER, SERIES, labels_used, spoken, whiskers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (3.9, 3.1)  # inches
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {c: f"--series-{i}" for i, c in enumerate(SERIES)}
_STYLE: dict[Any, Any] = {"font.family": ["DejaVu Sans"], "font.size": 8.5, "text.parse_math": False, "svg.fonttype": "none"}
_DASHES = ("none", "5 2", "1.5 1.5")
_PATHS = {
    "o": "M17 2.2a3.8 3.8 0 1 0 .01 0z",
    "s": "M13.6 2.6h6.8v6.8h-6.8z",
    "D": "M17 1.2l4.8 4.8-4.8 4.8-4.8-4.8z",
    "^": "M17 1.6l4.6 8h-9.2z",
    "v": "M17 10.4l4.6-8h-9.2z",
    "x": "M13.8 2.8l6.4 6.4M20.2 2.8l-6.4 6.4",
    "+": "M17 1.6v8.8M12.6 6h8.8",
}
_DODGE = 0.03  # of a decade, between the whiskers of one fraction


@dataclass(frozen=True)
class Look:
    """`colour`: as drawn, `variable`: its CSS variable; `marker`: matplotlib's, `path`: the same in a box of 34 by 12; `dash`: SVG's."""

    colour: str
    marker: str
    dash: str

    @property
    def variable(self) -> str:
        return _VARIABLES[self.colour]

    @property
    def path(self) -> str:
        return _PATHS[self.marker]


def look(line: Line) -> Look:
    """Of an encoder by its number: five colours with a marker each, then the same dashed; of a baseline by its kind."""
    if line.slot is None:
        return Look(MUTED, "x", "none") if line.init == "random" else Look(MUTED, "+", "1.5 1.5")
    return Look(SERIES[line.slot % len(SERIES)], MARKERS[line.slot % len(MARKERS)], _DASHES[line.slot // len(SERIES) % len(_DASHES)])


def chart(panel: Panel, height: tuple[float, float], salt: str) -> str:
    """An `<svg>` element. `height`: the least and the largest AUROC to show; `salt` keeps the ids of the page's charts apart."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(_STYLE | {"axes.edgecolor": LINE, "svg.hashsalt": salt}):
        figure = Figure(figsize=_SIZE, facecolor=PAPER, layout="constrained")
        axes = figure.subplots(subplot_kw={"facecolor": PAPER})
        axes.spines[["top", "right", "left"]].set_visible(False)
        _draw(axes, panel, height)
        figure.savefig(buffer, format="svg")
    svg = buffer.getvalue().decode()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    svg = svg.replace("'DejaVu Sans'", "system-ui, sans-serif")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def heights(panels: Sequence[Panel]) -> dict[str, tuple[float, float]]:
    """Per data set the range of AUROC that all its charts share, so that they can be compared by eye."""
    scores: dict[str, list[float]] = {}
    for panel in panels:
        ends = (row["auroc"][end] for line in panel.lines for row in line.rows.values() for end in ("low", "high"))
        scores.setdefault(panel.data, []).extend(ends)
    return {data: (min(found) - 0.02, min(1.005, max(found) + 0.02)) for data, found in scores.items()}


def _draw(axes: "Axes", panel: Panel, height: tuple[float, float]) -> None:
    ticks = {}
    for i, line in reversed(list(enumerate(panel.lines))):
        shown, rows = look(line), [line.rows[labels] for labels in panel.fractions if labels in line.rows]
        x = [labels_used(row) * 10 ** (_DODGE * (i - (len(panel.lines) - 1) / 2)) for row in rows]
        y = [row["auroc"]["mean"] for row in rows]
        style = (0, tuple(map(float, shown.dash.split()))) if shown.dash != "none" else "-"
        axes.plot(x, y, color=shown.colour, linewidth=1.2 if line.slot is None else 1.8, linestyle=style)
        edge = {} if shown.marker in "x+" else {"markeredgecolor": PAPER, "markeredgewidth": 0.7}
        axes.errorbar(x, y, whiskers(rows), fmt=shown.marker, color=shown.colour, markersize=6, elinewidth=1.0, **edge)
        ticks |= {labels_used(row): f"{spoken(row['labels'])}\n{labels_used(row):,.0f}" for row in rows}
    axes.set_xscale("log")
    axes.set_xlim(min(ticks) / 1.6, max(ticks) * 1.6)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.tick_params(colors=MUTED, labelcolor=MUTED, length=0, pad=5)
    axes.set_ylim(height)
    axes.set_title("AUROC on unseen patients", loc="left", color=INK, fontsize=8.5)
    axes.set_xlabel("share and number of labels", color=MUTED)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    if height[0] < 0.5:
        axes.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
