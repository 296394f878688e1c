"""The charts of one label fraction: ROC, precision-recall, confusion matrix, reliability, and the t-SNE map of the features."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.evaluate.stats import (
    GRID,
    Question,
    answers,
    apply_temperature,
    binary_questions,
    confusion,
    confusion_of_labels,
    over_draws,
    precision_recall,
    reliability,
    roc,
)
from medssl.report.formatting import format_score, init_name
from medssl.report.theme import (
    DASHES,
    INK,
    LINE,
    MARKERS,
    MUTED,
    PAPER,
    REFERENCE_LINE,
    SERIES,
    Chart,
    add_legend,
    figure_style,
    fix_layout,
    label_axes,
    new_figure,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 3.9  # inches: two charts stand side by side on a wide page, one fills a narrow page
_MAX_CURVES = 8  # of one class each; more cannot be told apart
_MAX_WITH_COUNTS = 12  # classes for which the cells of a confusion matrix have room for counts
_MAX_POINTS, _COMPONENTS, _PERPLEXITY = 2000, 50, 30

Draws = Mapping[str, Sequence[np.ndarray]]
Series = tuple[str, Sequence[Question], Sequence[np.ndarray]]  # name, questions whose mean is drawn, probabilities of each draw


def performance(kind: str, classes: Sequence[str], y: np.ndarray, probs: Draws, temperature: float | None) -> dict[str, Chart]:
    """ROC, precision-recall, confusion and reliability by name; those that the test images allow.

    `probs`: by initialisation the probabilities [n, k] of each draw; confusion and reliability are of the first draw of the first one.
    """
    asked = binary_questions(kind, y, len(classes))
    first = next(iter(probs.values()))[0]
    with figure_style():
        charts = {"confusion": fix_layout(_confusion(kind, classes, y, asked, first), "confusion")}
        charts["reliability"] = fix_layout(_reliability(kind, y, first, temperature), "reliability")
        if not asked:
            return charts
        series = _series(asked, classes, probs)
        curves = {"roc": fix_layout(_roc(series), "roc"), "precision_recall": fix_layout(_precision_recall(series), "pr")}
    return curves | charts


def _series(asked: Sequence[Question], classes: Sequence[str], probs: Draws) -> list[Series]:
    """One question: a series for each initialisation. Several: of the first initialisation their mean, and each of up to 8."""
    if len(asked) == 1:
        return [(init_name(init), asked, draws) for init, draws in probs.items()]
    draws = next(iter(probs.values()))
    return [("mean of all", asked, draws)] + ([(classes[q.column], [q], draws) for q in asked] if len(asked) <= _MAX_CURVES else [])


def _roc(series: Sequence[Series]) -> "Figure":
    from sklearn.metrics import roc_auc_score

    figure, axes = _square_axes("ROC curve (AUROC)", "false positive rate (1 − specificity)", "sensitivity")
    axes.plot([0, 1], [0, 1], **REFERENCE_LINE)
    add_legend(figure, *_draw_curves(axes, series, roc, roc_auc_score, (0.0,)))
    return figure


def _precision_recall(series: Sequence[Series]) -> "Figure":
    from sklearn.metrics import average_precision_score

    figure, axes = _square_axes("Precision-recall curve (AUPRC)", "recall (sensitivity)", "precision (positive predictive value)")
    _, asked, _ = series[0]
    if len(asked) == 1:
        axes.axhline(asked[0].truth.mean(), **REFERENCE_LINE)
    add_legend(figure, *_draw_curves(axes, series, precision_recall, average_precision_score, ()))
    return figure


def _draw_curves(
    axes: "Axes", series: Sequence[Series], curve: Callable[..., Any], area: Callable[..., Any], start: tuple[float, ...]
) -> tuple[list[Any], list[str]]:
    """Each series as the mean over its draws, with a band from the lowest to the highest draw. Returns the legend's handles and names."""
    handles, names = [], []
    several = len(series[0][1]) > 1
    for i, (name, asked, draws) in enumerate(series):
        curves = over_draws(curve, asked, draws)
        curves = np.hstack([np.tile(start, (len(curves), 1)), curves])
        x, colour = [*start, *GRID], INK if several and i == 0 else SERIES[(i - several) % len(SERIES)]
        (line,) = axes.plot(x, curves.mean(0), color=colour, linewidth=2.2 if i == 0 else 1.4, linestyle=DASHES[i % len(DASHES)])
        if len(draws) > 1 and (not several or i == 0):
            axes.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.13, linewidth=0)
        handles.append(line)
        names.append(f"{shorten(name)} ({format_score(over_draws(area, asked, draws).mean())})")
    return handles, names


def _square_axes(title: str, x: str, y: str) -> tuple["Figure", "Axes"]:
    figure, axes = new_figure((_WIDTH, 3.95))
    label_axes(axes, title, x, y)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), box_aspect=1)
    axes.grid(color=LINE, linewidth=0.8)
    return figure, axes


def _confusion(kind: str, classes: Sequence[str], y: np.ndarray, asked: Sequence[Question], prob: np.ndarray) -> "Figure":
    if kind == "multilabel":
        shown = asked[:_MAX_CURVES]
        rows = max(1, -(-len(shown) // 2))
        figure, axes = new_figure((_WIDTH, 2.3 * rows), rows, 2, squeeze=False)
        for each in axes.flat[len(shown) :]:
            each.set_axis_off()
        for each, question, counts in zip(axes.flat, shown, confusion_of_labels(shown, prob), strict=False):
            _matrix(each, counts, ["no", "yes"])
            label_axes(each, shorten(classes[question.column], 20), "predicted", "true")
        return figure
    figure, axes = new_figure((_WIDTH, 4.2))
    _matrix(axes, confusion(y, prob), [shorten(name, 14) for name in classes])
    label_axes(axes, "Confusion matrix", "predicted class", "true class")
    return figure


def _matrix(axes: "Axes", counts: np.ndarray, names: Sequence[str]) -> None:
    """A cell is the darker the larger its share of the row; count and share stand in it."""
    from matplotlib.patches import Rectangle

    k = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row in range(k):
        for column in range(k):
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=SERIES[0], alpha=0.5 * shares[row, column], edgecolor="none"))
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=LINE, linewidth=0.8))
            if k <= _MAX_WITH_COUNTS:
                share = f"\n{shares[row, column]:.0%}" if k <= _MAX_WITH_COUNTS // 2 else ""
                weight = "bold" if row == column else "normal"
                axes.text(
                    column + 0.5, row + 0.5, f"{counts[row, column]:,}{share}", ha="center", va="center", color=INK, weight=weight,
                    fontsize=9 if k <= _MAX_WITH_COUNTS // 2 else 7,
                )  # fmt: skip
    at, turned = np.arange(k) + 0.5, k > 4 or max(map(len, names)) * k > 36
    axes.set_xticks(at, names, rotation=90 if turned else 0, color=INK)
    axes.set_yticks(at, names, rotation=0 if turned else 90, va="center", color=INK)
    axes.set(xlim=(0, k), ylim=(k, 0), box_aspect=1)
    axes.spines[:].set_visible(False)


def _reliability(kind: str, y: np.ndarray, prob: np.ndarray, temperature: float | None) -> "Figure":
    """Accuracy over confidence, before and after temperature scaling, above the histogram of the confidences."""
    figure, (upper, lower) = new_figure((_WIDTH, 4.0), 2, 1, sharex=True, height_ratios=[3.2, 1])
    versions = {"uncalibrated": prob} | (
        {} if temperature is None else {f"temperature {temperature:.2f}": apply_temperature(prob, temperature, kind == "multilabel")}
    )
    upper.plot([0, 1], [0, 1], **REFERENCE_LINE)
    handles, names = [], []
    for i, (name, probabilities) in enumerate(versions.items()):
        bins = reliability(*answers(kind, y, probabilities))
        marker = {"marker": MARKERS[i], "markersize": 5.5, "markeredgecolor": PAPER, "markeredgewidth": 0.6}
        handles += upper.plot(bins.confidence, bins.right, color=SERIES[i], linewidth=1.6, linestyle=DASHES[i], **marker)
        names.append(name if kind == "multilabel" else f"{name} (ECE {bins.ece:.3f})")
        beside = 0.012 * (i - (len(versions) - 1) / 2)
        lower.vlines(bins.confidence + beside, 0, bins.share, color=SERIES[i], linewidth=3.2)
    label_axes(upper, "Reliability", "", "accuracy")
    label_axes(lower, "", "confidence", "predictions")
    least = 0.5 if kind == "multilabel" or prob.shape[1] == 2 else 0.0
    upper.set(xlim=(least - 0.02, 1.02), ylim=(-0.02, 1.04))
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    lower.set_ylim(bottom=0)
    for axes in (upper, lower):
        axes.grid(color=LINE, linewidth=0.8)
    add_legend(figure, handles, names)
    return figure


def select_points(number: int, seed: int) -> np.ndarray:
    """Which of `number` images a map shows: 2,000 at most."""
    rows = np.arange(number)
    return rows if number <= _MAX_POINTS else np.sort(np.random.default_rng(seed).choice(rows, _MAX_POINTS, replace=False))


def embedding(features: np.ndarray, groups: Mapping[str, tuple[Sequence[str], np.ndarray]], seed: int) -> dict[str, Chart]:
    """A t-SNE map of five images or more for each grouping: its title, its names, and the number of each image's name, -1 for none."""
    if len(features) < 5:
        return {}
    positions = tsne(features, seed)
    with figure_style():
        return {f"map_by_{by}": fix_layout(_scatter(positions, by, names, index), f"map-{by}") for by, (names, index) in groups.items()}


def tsne(features: np.ndarray, seed: int) -> np.ndarray:
    """[n, 2]: t-SNE (van der Maaten and Hinton 2008) of the first 50 principal components; it starts from the first two."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    reduced = PCA(min(_COMPONENTS, *features.shape), svd_solver="full").fit_transform(features.astype(np.float64))
    return TSNE(perplexity=min(_PERPLEXITY, (len(features) - 1) / 3), init="pca", random_state=seed).fit_transform(reduced)


def _scatter(positions: np.ndarray, by: str, names: Sequence[str], index: np.ndarray) -> "Figure":
    figure, axes = new_figure((_WIDTH, 3.7))
    handles, shown, size = [], [], 16 if len(positions) > 500 else 24
    for i in [-1, *range(len(names))]:
        own = positions[index == i]
        if not len(own):
            continue
        colour, marker = (MUTED, ".") if i < 0 else (SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)])
        dots = partial(axes.scatter, color=colour, marker=marker, edgecolors=PAPER, linewidths=0.4)
        dots(*own.T, s=size, alpha=0.85)
        handles.append(dots([], [], s=36))
        shown.append(f"{'unknown' if i < 0 else shorten(names[i], 24)} ({len(own):,})")
    label_axes(axes, f"Coloured by {by}")
    axes.set(xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    add_legend(figure, handles, shown, columns=2 if len(shown) > 4 else 1)
    return figure
