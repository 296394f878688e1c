"""The label-efficiency figure: AUROC on unseen patients over the number of labels, one line for each initialisation.

Drawn by matplotlib, for the page as SVG whose colours are the page's CSS variables (so it follows light and dark) and whose text stays
text, and as PNG for a tracker. Colours are those of Okabe and Ito, told apart by marker shape as well.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"pretrained": "pretrained", "random": "random start", "pixels": "raw pixels"}
INK, MUTED, LINE, PAPER = "#1b1f24", "#5b6470", "#d9dde2", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
MARKERS = "osD^v"
WIDE, NARROW = (7.6, 4.0), (3.9, 4.0)  # inches
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {c: f"--series-{i}" for i, c in enumerate(SERIES)}
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "svg.fonttype": "none",
}
_DODGE = 0.035  # of a decade, between the whiskers of one fraction

Rows = Sequence[Mapping[str, Any]]


def spoken(labels: str) -> str:
    """A fraction's name as people say it: "10pct" is "10%", "50shot" "50 per class"."""
    return labels.replace("pct", "%").replace("shot", " per class")


def figure_png(document: Mapping[str, Any]) -> bytes:
    """The figure of results.json for a tracker, on white, 200 dots per inch."""
    return _saved(_drawn(document["summary"], WIDE), format="png", dpi=200)


def figure_svg(document: Mapping[str, Any], size: tuple[float, float], salt: str) -> str:
    """The figure as an `<svg>` element to stand inside a page. `salt` keeps the ids of two figures on one page apart."""
    svg = _saved(_drawn(document["summary"], size), format="svg", salt=salt).decode()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    svg = svg.replace("'DejaVu Sans'", "system-ui, sans-serif")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _saved(figure: "Figure", *, salt: str = "", **options: Any) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context(_STYLE | {"svg.hashsalt": salt}):
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def _drawn(summary: Rows, size: tuple[float, float]) -> "Figure":
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        several = len({row["labels"] for row in summary}) > 1
        figure = Figure(figsize=size if several else (size[0], 0.9 + 0.5 * len(summary)), facecolor=PAPER, layout="constrained")
        axes = figure.subplots(subplot_kw={"facecolor": PAPER})
        axes.tick_params(colors=MUTED, labelcolor=MUTED, length=0, pad=6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        (_curve if several else _dots)(axes, summary)
        return figure


def _curve(axes: "Axes", summary: Rows) -> None:
    inits = list(dict.fromkeys(row["init"] for row in summary))
    ends = []
    for i, init in reversed(list(enumerate(inits))):
        rows = sorted((row for row in summary if row["init"] == init), key=_labels_used)
        x = [_labels_used(row) * 10 ** (_DODGE * (i - (len(inits) - 1) / 2)) for row in rows]
        y, spread = [row["auroc"]["mean"] for row in rows], _whiskers(rows)
        axes.plot(x, y, color=SERIES[i], linewidth=2.2 if i == 0 else 1.4, solid_capstyle="round")
        axes.errorbar(
            x, y, spread, fmt=MARKERS[i], color=SERIES[i], markersize=6.5, elinewidth=1.2, markeredgecolor=PAPER, markeredgewidth=0.8
        )
        ends.append((y[-1], init, i))
    axes.set_xscale("log")
    ticks = {_labels_used(row): f"{spoken(row['labels'])}\n{_labels_used(row):,.0f} labels" for row in summary}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlabel("share of the labelled training patients used", color=MUTED)
    axes.set_title("AUROC on unseen patients", loc="left", color=INK, fontsize=9)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 1.005) if high > 1 else high)
    if axes.get_ylim()[0] < 0.5:
        axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        axes.annotate(
            "chance", (1, 0.5), (-2, 3), ("axes fraction", "data"), textcoords="offset points", ha="right", color=MUTED, fontsize=8
        )
    _direct_labels(axes, ends)


def _dots(axes: "Axes", summary: Rows) -> None:
    for i, row in enumerate(summary):
        score = row["auroc"]
        axes.errorbar(
            score["mean"], -i, xerr=_whiskers([row]), fmt=MARKERS[i], color=SERIES[i], markersize=8, elinewidth=1.6, markeredgecolor=PAPER
        )  # fmt: skip
        axes.annotate(f"{score['mean']:.3f}", (score["mean"], -i), (0, 8), textcoords="offset points", ha="center", color=INK)
    axes.set_yticks([-i for i in range(len(summary))], [str(NAMES.get(row["init"], row["init"])) for row in summary], color=INK)
    axes.set_ylim(0.4 - len(summary), 0.7)
    axes.set_xlabel(f"AUROC on unseen patients, {spoken(summary[0]['labels'])} of the labels", color=MUTED)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    if axes.get_xlim()[0] < 0.5:
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))


def _direct_labels(axes: "Axes", ends: Sequence[tuple[float, str, int]]) -> None:
    """The names to the right of the lines' ends, moved apart where they would touch."""
    low, high = axes.get_ylim()
    least = 0.07 * (high - low)
    at = -float("inf")
    for y, init, i in sorted(ends):
        at = max(y, at + least)
        axes.annotate(
            NAMES.get(init, init), (1, at), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            color=INK, weight="bold" if i == 0 else "normal", annotation_clip=False,
        )  # fmt: skip


def _labels_used(row: Mapping[str, Any]) -> float:
    return (row["n_labels"]["low"] + row["n_labels"]["high"]) / 2


def _whiskers(rows: Rows) -> list[list[float]]:
    """How far the interval reaches below and above each mean; a percentile interval need not hold the mean."""
    scores = [row["auroc"] for row in rows]
    return [[max(0.0, s["mean"] - s["low"]) for s in scores], [max(0.0, s["high"] - s["mean"]) for s in scores]]
