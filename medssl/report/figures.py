"""Figures of results.json: the label-efficiency curve, and the score in each group of patients with its interval."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medssl.evaluate.label_draws import headline_fraction
from medssl.report.theme import DOTTED, INK, LINE, MARKERS, MUTED, PAPER, SERIES, blank, png, short, style, svg, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"pretrained": "pretrained", "random": "random start", "pixels": "raw pixels"}
MODES = {"linear": "linear", "full": "whole network", "knn": "nearest neighbours"}
WIDE, NARROW = (7.6, 4.0), (3.9, 4.0)  # inches
_DODGE = 0.035  # of a decade, between the whiskers of one fraction
_GROUPS = 24  # groups of patients that are drawn

Rows = Sequence[Mapping[str, Any]]


def spoken(labels: str) -> str:
    """A fraction's name as people say it: "10pct" is "10%", "50shot" "50 per class"."""
    return labels.replace("pct", "%").replace("shot", " per class")


def called(row: Mapping[str, Any], summary: Rows, names: Mapping[str, str] = NAMES) -> str:
    """A starting point's name, with the mode where the study has several."""
    name = str(names.get(row["init"], row["init"]))
    several = len({other["mode"] for other in summary if other["init"] != "pixels"}) > 1
    return f"{name}, {MODES.get(row['mode'], row['mode'])}" if several and row["init"] != "pixels" else name


def figure_png(document: Mapping[str, Any]) -> bytes:
    """The label-efficiency figure of results.json for a tracker, on white."""
    with style():
        return png(_label_efficiency(document["summary"], WIDE))


def figure_svg(document: Mapping[str, Any], size: tuple[float, float], salt: str) -> str:
    """The same as an `<svg>` element to stand inside a page. `salt` keeps the ids of two figures on one page apart."""
    with style():
        return svg(_label_efficiency(document["summary"], size), salt)


def figure_files(document: Mapping[str, Any]) -> dict[str, bytes]:
    """All figures of results.json for a tracker: PNG by file name."""
    files = {"label_efficiency.png": figure_png(document)}
    if groups := shown_groups(document):
        with style():
            files["subgroups.png"] = png(_subgroups(groups, document["summary"], WIDE[0]))
    return files


def shown_groups(document: Mapping[str, Any]) -> Rows:
    """The groups of patients as the page shows them: of the first mode and starting point, at 10% of the labels where that was run, in the
    order of the document, those of one kind together."""
    first, rows = document["summary"][0], document.get("subgroups") or []
    rows = [row for row in rows if (row["mode"], row["init"]) == (first["mode"], first["init"])]
    fractions = list(dict.fromkeys(row["labels"] for row in rows))
    at = headline_fraction(fractions) if fractions else None
    kinds = list(dict.fromkeys(row["by"] for row in rows))
    return sorted((row for row in rows if row["labels"] == at), key=lambda row: kinds.index(row["by"]))


def subgroups_svg(document: Mapping[str, Any], width: float, salt: str) -> str:
    """AUROC in each group of patients, as an `<svg>` element; empty where there is none."""
    groups = shown_groups(document)
    if not groups:
        return ""
    with style():
        return svg(_subgroups(groups, document["summary"], width), salt)


def _label_efficiency(summary: Rows, size: tuple[float, float]) -> "Figure":
    several = len({row["labels"] for row in summary}) > 1
    figure, axes = blank(size if several else (size[0], 0.9 + 0.5 * len(summary)))
    (_curve if several else _dots)(axes, summary)
    return figure


def _curve(axes: "Axes", summary: Rows) -> None:
    names = list(dict.fromkeys(called(row, summary) for row in summary))
    ends = []
    for i, name in reversed(list(enumerate(names))):
        rows = sorted((row for row in summary if called(row, summary) == name), key=labels_used)
        x = [labels_used(row) * 10 ** (_DODGE * (i - (len(names) - 1) / 2)) for row in rows]
        y, spread, colour = [row["auroc"]["mean"] for row in rows], whiskers(rows), SERIES[i % len(SERIES)]
        axes.plot(x, y, color=colour, linewidth=2.2 if i == 0 else 1.4, solid_capstyle="round")
        axes.errorbar(
            x, y, spread, fmt=MARKERS[i % len(MARKERS)], color=colour, markersize=6.5, elinewidth=1.2, markeredgecolor=PAPER,
            markeredgewidth=0.8,
        )  # fmt: skip
        ends.append((y[-1], name, i))
    axes.set_xscale("log")
    ticks = {labels_used(row): f"{spoken(row['labels'])}\n{labels_used(row):,.0f}" for row in summary}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    titled(axes, "AUROC on unseen patients", "share of the training patients, number of labels")
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 1.005) if high > 1 else high)
    if axes.get_ylim()[0] < 0.5:
        axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=DOTTED)
        axes.annotate(
            "chance", (1, 0.5), (-2, 3), ("axes fraction", "data"), textcoords="offset points", ha="right", color=MUTED, fontsize=8
        )
    _direct_labels(axes, ends)


def _dots(axes: "Axes", summary: Rows) -> None:
    for i, row in enumerate(summary):
        score = row["auroc"]
        axes.errorbar(
            score["mean"], -i, xerr=whiskers([row]), fmt=MARKERS[i % len(MARKERS)], color=SERIES[i % len(SERIES)], markersize=8,
            elinewidth=1.6, markeredgecolor=PAPER,
        )  # fmt: skip
        axes.annotate(f"{score['mean']:.3f}", (score["mean"], -i), (0, 8), textcoords="offset points", ha="center", color=INK)
    axes.set_yticks([-i for i in range(len(summary))], [short(called(row, summary)) for row in summary], color=INK)
    axes.set_ylim(0.4 - len(summary), 0.7)
    axes.set_xlabel(f"AUROC on unseen patients, {spoken(summary[0]['labels'])} of the labels", color=MUTED)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    if axes.get_xlim()[0] < 0.5:
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=DOTTED)


def _direct_labels(axes: "Axes", ends: Sequence[tuple[float, str, int]]) -> None:
    """The names to the right of the lines' ends, moved apart where they would touch."""
    low, high = axes.get_ylim()
    least = 0.07 * (high - low)
    at = -float("inf")
    for y, name, i in sorted(ends):
        at = max(y, at + least)
        axes.annotate(
            name, (1, at), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            color=INK, weight="bold" if i == 0 else "normal", annotation_clip=False,
        )  # fmt: skip


def _subgroups(groups: Rows, summary: Rows, width: float) -> "Figure":
    """A dot and its interval for each group, those of too few patients hollow and grey; the line is the score of all test patients."""
    shown = groups[:_GROUPS]
    rows = [row for kind in dict.fromkeys(row["by"] for row in shown) for row in (kind, *(row for row in shown if row["by"] == kind))]
    figure, axes = blank((width, 0.6 + 0.28 * len(rows)))
    for y, row in enumerate(rows):
        if isinstance(row, str):
            continue
        colour = MUTED if row["small"] else SERIES[0]
        if row["auroc"] is None:
            axes.annotate(
                "not both classes", (0, y), (6, 0), ("axes fraction", "data"), "offset points", va="center", color=MUTED, fontsize=8
            )
            continue
        axes.errorbar(
            row["auroc"]["mean"], y, xerr=whiskers([row]), fmt="o", color=colour, markersize=6, elinewidth=1.4,
            markerfacecolor=PAPER if row["small"] else colour,
        )  # fmt: skip
    everyone = next(r for r in summary if all(r[key] == shown[0][key] for key in ("labels", "mode", "init")))
    axes.axvline(everyone["auroc"]["mean"], color=MUTED, linewidth=1, linestyle=DOTTED)
    named = [row.replace("_", " ") if isinstance(row, str) else f"{short(str(row['value']), 18)} ({row['n_patients']:,})" for row in rows]
    axes.set_yticks(range(len(rows)), named, color=INK)
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set(weight="bold" if isinstance(row, str) else "normal", color=MUTED if not isinstance(row, str) and row["small"] else INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    titled(axes, "", "AUROC")
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    return figure


def labels_used(row: Mapping[str, Any]) -> float:
    """The number of labels at which a row of the summary is drawn."""
    return (row["n_labels"]["low"] + row["n_labels"]["high"]) / 2


def whiskers(rows: Rows) -> list[list[float]]:
    """How far the interval reaches below and above each mean; a percentile interval need not hold the mean."""
    scores = [row["auroc"] for row in rows]
    return [[max(0.0, s["mean"] - s["low"]) for s in scores], [max(0.0, s["high"] - s["mean"]) for s in scores]]
