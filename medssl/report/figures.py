"""The figures of results.json: the label-efficiency curve, and the score in each subgroup of patients with its interval."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from medssl.evaluate import ResultsDocument, Score, SubgroupRow, SummaryRow, headline_fraction
from medssl.evaluate.stats import ends
from medssl.report.formatting import format_score, label_amounts, series_name, short_amount
from medssl.report.theme import (
    INK,
    LINE,
    MUTED,
    PAPER,
    REFERENCE_LINE,
    SERIES,
    SeriesStyle,
    figure_style,
    label_axes,
    new_figure,
    series_style,
    shorten,
    to_png,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDE, NARROW = (7.6, 4.0), (3.9, 4.0)  # inches
_OFFSET = 0.035  # of a decade, between the intervals of one fraction
_MAX_SUBGROUPS = 24
_NAME_WIDTH = 16  # characters of a line's name, which then goes on in a second row
_TOP = 1.02  # of an axis of AUROC: a marker at 1 is seen whole

Rows = Sequence[SummaryRow]


def figure_svg(document: ResultsDocument, size: tuple[float, float], salt: str) -> str:
    """The label-efficiency figure as an `<svg>` element. `salt` keeps the ids of two figures on one page apart."""
    with figure_style():
        return to_svg(_label_efficiency(document.summary, size), salt)


def figure_files(document: ResultsDocument) -> dict[str, bytes]:
    """All figures of results.json for a tracker: PNG by file name."""
    with figure_style():
        files = {"label_efficiency.png": to_png(_label_efficiency(document.summary, WIDE))}
        if groups := headline_subgroups(document):
            files["subgroups.png"] = to_png(_subgroups(groups, document.summary, WIDE[0]))
    return files


def headline_subgroups(document: ResultsDocument) -> list[SubgroupRow]:
    """The subgroups that the page shows: of the first mode and initialisation, at the fraction of the headline where it was run. Those of
    one kind stand together, in the order of the document."""
    first = document.summary[0]
    rows = [row for row in document.subgroups if (row.mode, row.init) == (first.mode, first.init)]
    if not rows:
        return []
    headline, kinds = headline_fraction([row.labels for row in rows]), list(dict.fromkeys(row.by for row in rows))
    return sorted((row for row in rows if row.labels == headline), key=lambda row: kinds.index(row.by))


def subgroups_svg(document: ResultsDocument, width: float, salt: str) -> str:
    """AUROC in each subgroup, as an `<svg>` element; empty where there is no subgroup."""
    groups = headline_subgroups(document)
    if not groups:
        return ""
    with figure_style():
        return to_svg(_subgroups(groups, document.summary, width), salt)


def draw_scores(axes: "Axes", rows: Rows, style: SeriesStyle, shift: float, width: float) -> float:
    """One series over the number of labels: its line, its means and their intervals. `shift`: to the right, in fractions of a decade, so
    that intervals of one fraction stand side by side. Returns the last mean."""
    x, y = [n_labels(row) * 10**shift for row in rows], [row.auroc.mean for row in rows]
    axes.plot(x, y, color=style.colour, linewidth=width, linestyle=":" if style.dotted else "-", solid_capstyle="round")
    axes.errorbar(
        x,
        y,
        interval_lengths([row.auroc for row in rows]),
        fmt=style.marker,
        color=style.colour,
        markersize=6.5,
        elinewidth=1.2,
        **style.marker_edge,
    )
    return y[-1]


def finish_label_axes(axes: "Axes", rows: Rows) -> None:
    """The axes of a label-efficiency curve: the amounts of labels of `rows` on a logarithmic scale, the scores, and the line of chance."""
    axes.set_xscale("log")
    ticks = {n_labels(row): f"{short_amount(row.labels)}\n{n_labels(row):,.0f}" for row in rows}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    label_axes(axes, "AUROC on the test set", "share of the labels, number of labels")
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    end_at_one(axes.yaxis, axes.set_ylim)
    if axes.get_ylim()[0] < 0.5:
        axes.axhline(0.5, **REFERENCE_LINE)
        axes.annotate(
            "chance", (0.26, 0.5), (0, 3), ("axes fraction", "data"), textcoords="offset points", ha="center", color=MUTED, fontsize=8
        )


def end_at_one(axis: "Axis", set_limits: Callable[[float, float], object]) -> None:
    """An axis of scores, from 0 to 1, has no ticks beyond these and ends there."""
    low, high = axis.get_view_interval()
    low, high = max(low, 1 - _TOP), min(high, _TOP)
    axis.set_ticks([tick for tick in axis.get_ticklocs() if low <= tick <= high and 0 <= round(tick, 9) <= 1])
    set_limits(low, high)


def _label_efficiency(summary: Rows, size: tuple[float, float]) -> "Figure":
    several = len({row.labels for row in summary}) > 1
    figure, axes = new_figure(size if several else (size[0], 0.9 + 0.5 * len(summary)))
    (_curves if several else _dots)(axes, summary)
    return figure


def _curves(axes: "Axes", summary: Rows) -> None:
    names = list(dict.fromkeys(series_name(row, summary) for row in summary))
    ends = []
    for i, name in reversed(list(enumerate(names))):
        rows = sorted((row for row in summary if series_name(row, summary) == name), key=n_labels)
        y = draw_scores(axes, rows, series_style(i), _OFFSET * (i - (len(names) - 1) / 2), 2.2 if i == 0 else 1.4)
        ends.append((y, name, i))
    finish_label_axes(axes, summary)
    _name_lines(axes, ends)


def _dots(axes: "Axes", summary: Rows) -> None:
    for i, row in enumerate(summary):
        score, style = row.auroc, series_style(i)
        axes.errorbar(
            score.mean,
            -i,
            xerr=interval_lengths([score]),
            fmt=style.marker,
            color=style.colour,
            markersize=8,
            elinewidth=1.6,
            **style.marker_edge,
        )
        axes.annotate(format_score(score.mean), (score.mean, -i), (0, 8), textcoords="offset points", ha="center", color=INK)
    axes.set_yticks([-i for i in range(len(summary))], [shorten(series_name(row, summary)) for row in summary], color=INK)
    axes.set_ylim(0.4 - len(summary), 0.7)
    axes.set_xlabel(f"AUROC on the test set, {label_amounts(summary[0].labels)}", color=MUTED)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    end_at_one(axes.xaxis, axes.set_xlim)
    if axes.get_xlim()[0] < 0.5:
        axes.axvline(0.5, **REFERENCE_LINE)


def _name_lines(axes: "Axes", ends: Sequence[tuple[float, str, int]]) -> None:
    """The names to the right of the lines' ends, moved apart where they would touch, and down where they would not fit below the top."""
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: (end[0], -end[2]))
    named = [(y, textwrap.wrap(name, _NAME_WIDTH, break_long_words=False), i) for y, name, i in ends]
    halves = [0.035 * len(rows) * (high - low) for _, rows, _ in named]
    free, places = -float("inf"), []
    for (y, _, _), half in zip(named, halves, strict=True):
        places.append(max(y, free + half))
        free = places[-1] + half
    free = high
    for place, half in reversed([*enumerate(halves)]):
        places[place] = min(places[place], free - half)
        free = places[place] - half
    for at, (_, rows, i) in zip(places, named, strict=True):
        axes.annotate(
            "\n".join(rows), (1, at), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            color=INK, weight="bold" if i == 0 else "normal", annotation_clip=False,
        )  # fmt: skip


def _subgroups(groups: Sequence[SubgroupRow], summary: Rows, width: float) -> "Figure":
    """A dot and its interval for each subgroup, hollow and grey for too few patients. The line is the score of all test patients."""
    shown = groups[:_MAX_SUBGROUPS]
    rows = [row for kind in dict.fromkeys(row.by for row in shown) for row in (kind, *(row for row in shown if row.by == kind))]
    figure, axes = new_figure((width, 0.6 + 0.28 * len(rows)))
    for y, row in enumerate(rows):
        if isinstance(row, str):
            continue
        colour = MUTED if row.small else SERIES[0]
        if (auroc := row.score("auroc")) is None:
            axes.annotate(
                "not both classes", (0, y), (6, 0), ("axes fraction", "data"), "offset points", va="center", color=MUTED, fontsize=8
            )
            continue
        axes.errorbar(
            auroc.mean, y, xerr=interval_lengths([auroc]), fmt="o", color=colour, markersize=6, elinewidth=1.4,
            markerfacecolor=PAPER if row.small else colour,
        )  # fmt: skip
    overall = next(r for r in summary if (r.labels, r.mode, r.init) == (shown[0].labels, shown[0].mode, shown[0].init))
    axes.axvline(overall.auroc.mean, **REFERENCE_LINE)
    names = [row.replace("_", " ") if isinstance(row, str) else f"{shorten(row.value, 18)} ({row.n_patients:,})" for row in rows]
    axes.set_yticks(range(len(rows)), names, color=INK)
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set(weight="bold" if isinstance(row, str) else "normal", color=MUTED if not isinstance(row, str) and row.small else INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    label_axes(axes, "", "AUROC")
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    end_at_one(axes.xaxis, axes.set_xlim)
    return figure


def n_labels(row: SummaryRow) -> float:
    """The number of labels at which a row of the summary is drawn: the middle between the smallest and the largest draw."""
    return (row.n_labels.low + row.n_labels.high) / 2


def interval_lengths(scores: Sequence[Score]) -> list[list[float]]:
    """The length of the interval below and above each mean, not below 0: the mean may lie outside a percentile interval. 0 without one."""
    drawn = [(s.mean, *(ends(s) or (s.mean, s.mean))) for s in scores]
    return [[max(0.0, mean - low) for mean, low, _ in drawn], [max(0.0, high - mean) for mean, _, high in drawn]]
