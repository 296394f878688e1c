"""The charts of a comparison: AUROC over the number of labels, one chart for each data set and mode, one curve for each encoder.

An encoder has one colour and marker in all charts; baselines are grey.
"""

from collections.abc import Sequence

from medssl.compare.runs import Comparison
from medssl.evaluate.stats import ends
from medssl.report.figures import draw_scores, finish_label_axes
from medssl.report.theme import figure_style, new_figure, to_svg

_SIZE = (3.9, 3.1)  # inches
_OFFSET = 0.03  # of a decade, between the intervals of one fraction
_MARGIN = 0.02  # of AUROC, above and below the intervals


def draw_chart(comparison: Comparison, limits: tuple[float, float], salt: str) -> str:
    """The chart as an `<svg>` element. `limits`: of the AUROC axis. `salt`: makes the ids of each chart on a page different."""
    with figure_style():
        figure, axes = new_figure(_SIZE)
        axes.set_ylim(limits)
        drawn = []
        for i, curve in reversed(list(enumerate(comparison.curves))):
            rows = [curve.rows[labels] for labels in comparison.fractions if labels in curve.rows]
            shift = _OFFSET * (i - (len(comparison.curves) - 1) / 2)
            draw_scores(axes, rows, curve.style, shift, 1.2 if curve.number is None else 1.8)
            drawn += rows
        finish_label_axes(axes, drawn)
        low, high = axes.get_xlim()
        axes.set_xlim(low / 1.2, high * 1.2)
        return to_svg(figure, salt)


def auroc_limits(comparisons: Sequence[Comparison]) -> dict[str, tuple[float, float]]:
    """The range of AUROC of each data set. All charts of a data set share it, so the same height is the same score."""
    scores: dict[str, list[float]] = {}
    for comparison in comparisons:
        shown = [row.auroc for curve in comparison.curves for row in curve.rows.values()]
        scores.setdefault(comparison.data, []).extend(end for auroc in shown for end in (ends(auroc) or (auroc.mean,)))
    return {data: (min(found) - _MARGIN, max(found) + _MARGIN) for data, found in scores.items()}
