"""The charts of one label fraction: ROC, precision-recall, confusion, reliability, and the map of the encoder's features."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.evaluate.models.calibration import tempered
from medssl.evaluate.stats.curves import (
    GRID,
    Question,
    answers,
    confusion,
    confusion_of_labels,
    over_draws,
    precision_recall,
    questions,
    reliability,
    roc,
)
from medssl.report.figures import NAMES
from medssl.report.theme import (
    DASHES,
    DOTTED,
    INK,
    LINE,
    MARKERS,
    MUTED,
    PAPER,
    SERIES,
    Chart,
    blank,
    legend,
    settled,
    short,
    style,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 3.9  # inches: two stand side by side on a wide page, one fills a narrow one
_MOST_CLASSES = 8  # lines or tables of one class each; more cannot be told apart
_NUMBERED = 12  # classes up to which a confusion matrix has room for numbers
_POINTS, _COMPONENTS, _PERPLEXITY = 2000, 50, 30

Draws = Mapping[str, Sequence[np.ndarray]]


def performance(kind: str, classes: Sequence[str], y: np.ndarray, probs: Draws, temperature: float | None) -> dict[str, Chart]:
    """ROC, precision-recall, confusion and reliability by name; those that the test images allow."""
    asked = questions(kind, y, len(classes))
    first = next(iter(probs.values()))[0]
    with style():
        charts = {"confusion": settled(_confusion(kind, classes, y, asked, first), "confusion")}
        charts["reliability"] = settled(_reliability(kind, y, first, temperature), "reliability")
        if not asked:
            return charts
        curves = {
            "roc": settled(_roc(asked, classes, probs), "roc"),
            "precision_recall": settled(_precision_recall(asked, classes, probs), "pr"),
        }
    return curves | charts


def _roc(asked: Sequence[Question], classes: Sequence[str], probs: Draws) -> "Figure":
    from sklearn.metrics import roc_auc_score

    figure, axes = _square("ROC curve (area)", "false alarms (1 − specificity)", "sensitivity")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DOTTED)
    legend(figure, *_lines(axes, asked, classes, probs, roc, roc_auc_score, (0.0,)))
    return figure


def _precision_recall(asked: Sequence[Question], classes: Sequence[str], probs: Draws) -> "Figure":
    from sklearn.metrics import average_precision_score

    figure, axes = _square("Precision and recall (average precision)", "recall (sensitivity)", "precision (positive predictive value)")
    if len(asked) == 1:
        axes.axhline(asked[0].truth.mean(), color=MUTED, linewidth=1, linestyle=DOTTED)
    legend(figure, *_lines(axes, asked, classes, probs, precision_recall, average_precision_score, ()))
    return figure


def _lines(
    axes: "Axes", asked: Sequence[Question], classes: Sequence[str], probs: Draws, of: Callable[..., Any], area: Callable[..., Any],
    start: tuple[float, ...],
) -> tuple[list[Any], list[str]]:  # fmt: skip
    """One question: a line for each starting point. Several: their mean for the first one, and a thin line for each of up to 8."""
    wanted = [(NAMES.get(init, init), asked, draws) for init, draws in probs.items()]
    if len(asked) > 1:
        wanted = [("mean of all", asked, wanted[0][2])]
        wanted += [(classes[q.column], [q], wanted[0][2]) for q in asked] if len(asked) <= _MOST_CLASSES else []
    handles, names = [], []
    for i, (name, about, draws) in enumerate(wanted):
        curves = over_draws(of, about, draws)
        curves = np.hstack([np.tile(start, (len(curves), 1)), curves])
        x, colour = [*start, *GRID], INK if i == 0 and len(asked) > 1 else SERIES[(i - (len(asked) > 1)) % len(SERIES)]
        (line,) = axes.plot(x, curves.mean(0), color=colour, linewidth=2.2 if i == 0 else 1.4, linestyle=DASHES[i % len(DASHES)])
        if len(draws) > 1 and (len(asked) == 1 or i == 0):
            axes.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.13, linewidth=0)
        handles.append(line)
        names.append(f"{short(name)} ({over_draws(area, about, draws).mean():.3f})")
    return handles, names


def _square(title: str, x: str, y: str) -> tuple["Figure", "Axes"]:
    figure, axes = blank((SIDE, 3.95))
    titled(axes, title, x, y)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), box_aspect=1)
    axes.grid(color=LINE, linewidth=0.8)
    return figure, axes


def _confusion(kind: str, classes: Sequence[str], y: np.ndarray, asked: Sequence[Question], prob: np.ndarray) -> "Figure":
    if kind == "multilabel":
        shown = asked[:_MOST_CLASSES]
        rows = max(1, -(-len(shown) // 2))
        figure, axes = blank((SIDE, 2.3 * rows), rows, 2, squeeze=False)
        for each in axes.flat[len(shown) :]:
            each.set_axis_off()
        for each, question, counts in zip(axes.flat, shown, confusion_of_labels(shown, prob), strict=False):
            _matrix(each, counts, ["no", "yes"])
            titled(each, short(classes[question.column], 20), "called", "is")
        return figure
    figure, axes = blank((SIDE, 4.2))
    _matrix(axes, confusion(y, prob), [short(name, 14) for name in classes])
    titled(axes, "Confusion matrix", "what it was called", "what it is")
    return figure


def _matrix(axes: "Axes", counts: np.ndarray, names: Sequence[str]) -> None:
    """Cells the darker the larger their share of the row, with count and share in words."""
    from matplotlib.patches import Rectangle

    k = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row in range(k):
        for column in range(k):
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=SERIES[0], alpha=0.5 * shares[row, column], edgecolor="none"))
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=LINE, linewidth=0.8))
            if k <= _NUMBERED:
                share = f"\n{shares[row, column]:.0%}" if k <= _NUMBERED // 2 else ""
                weight = "bold" if row == column else "normal"
                axes.text(
                    column + 0.5, row + 0.5, f"{counts[row, column]:,}{share}", ha="center", va="center", color=INK, weight=weight,
                    fontsize=9 if k <= _NUMBERED // 2 else 7,
                )  # fmt: skip
    at, turned = np.arange(k) + 0.5, k > 4 or max(map(len, names)) * k > 36
    axes.set_xticks(at, names, rotation=90 if turned else 0, color=INK)
    axes.set_yticks(at, names, rotation=0 if turned else 90, va="center", color=INK)
    axes.set(xlim=(0, k), ylim=(k, 0), box_aspect=1)
    axes.spines[:].set_visible(False)


def _reliability(kind: str, y: np.ndarray, prob: np.ndarray, temperature: float | None) -> "Figure":
    """Observed against stated, over the histogram of what was stated."""
    figure, (upper, lower) = blank((SIDE, 4.0), 2, 1, sharex=True, height_ratios=[3.2, 1])
    versions = {"as stated": prob} | (
        {} if temperature is None else {f"temperature {temperature:.2f}": tempered(prob, temperature, kind == "multilabel")}
    )
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DOTTED)
    handles, names = [], []
    for i, (name, stated) in enumerate(versions.items()):
        bins = reliability(*answers(kind, y, stated))
        marker = {"marker": MARKERS[i], "markersize": 5.5, "markeredgecolor": PAPER, "markeredgewidth": 0.6}
        handles += upper.plot(bins.confidence, bins.right, color=SERIES[i], linewidth=1.6, linestyle=DASHES[i], **marker)
        names.append(name if kind == "multilabel" else f"{name} (ECE {bins.ece:.3f})")
        beside = 0.012 * (i - (len(versions) - 1) / 2)
        lower.vlines(bins.confidence + beside, 0, bins.share, color=SERIES[i], linewidth=3.2)
    titled(upper, "Reliability", "", "share that was right")
    titled(lower, "", "stated confidence", "images" if kind != "multilabel" else "answers")
    least = 0.5 if kind == "multilabel" or prob.shape[1] == 2 else 0.0
    upper.set(xlim=(least - 0.02, 1.02), ylim=(-0.02, 1.04))
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    lower.set_ylim(bottom=0)
    for axes in (upper, lower):
        axes.grid(color=LINE, linewidth=0.8)
    legend(figure, handles, names)
    return figure


def embedding(features: np.ndarray, groups: Mapping[str, tuple[Sequence[str], np.ndarray]], seed: int) -> dict[str, Chart]:
    """A t-SNE map of at most 2,000 images for each way to colour them: title to names and the number of each image's name, -1 for none."""
    rows = np.arange(len(features))
    if len(rows) > _POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _POINTS, replace=False))
    if len(rows) < 5:
        return {}
    at = places(features[rows], seed)
    with style():
        return {f"map_by_{by}": settled(_map(at, by, names, index[rows]), f"map-{by}") for by, (names, index) in groups.items()}


def places(features: np.ndarray, seed: int) -> np.ndarray:
    """[n, 2]: t-SNE (van der Maaten and Hinton 2008) of the first 50 principal components, from the first two on."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    reduced = PCA(min(_COMPONENTS, *features.shape), svd_solver="full").fit_transform(features.astype(np.float64))
    return TSNE(perplexity=min(_PERPLEXITY, (len(features) - 1) / 3), init="pca", random_state=seed).fit_transform(reduced)


def _map(at: np.ndarray, by: str, names: Sequence[str], index: np.ndarray) -> "Figure":
    figure, axes = blank((SIDE, 3.7))
    handles, said, size = [], [], 16 if len(at) > 500 else 24
    for i in [-1, *range(len(names))]:
        own = at[index == i]
        if not len(own):
            continue
        colour, marker = (MUTED, ".") if i < 0 else (SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)])
        dots = partial(axes.scatter, color=colour, marker=marker, edgecolors=PAPER, linewidths=0.4)
        dots(*own.T, s=size, alpha=0.85)
        handles.append(dots([], [], s=36))
        said.append(f"{'unknown' if i < 0 else short(names[i], 24)} ({len(own):,})")
    titled(axes, f"Coloured by {by}")
    axes.set(xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    legend(figure, handles, said, columns=2 if len(said) > 4 else 1)
    return figure
