"""comparison.html: several runs on one page. Like the report of one run, the page is one file, works offline, has no script, and escapes
all text that comes from data."""

from collections.abc import Sequence
from pathlib import Path

from medssl.compare.charts import auroc_limits, draw_chart
from medssl.compare.runs import BASELINES, Comparison, Curve, Run, build_comparisons
from medssl.evaluate import headline_fraction
from medssl.files import write_atomically
from medssl.report.formatting import join_words, label_amounts, mode_name
from medssl.report.rendering import render_template

SECTIONS = {
    "curves": "Label efficiency",
    "scores": "Scores",
    "differences": "Differences with intervals",
    "saved": "Labels saved",
    "reading": "How to read this page",
    "provenance": "Provenance",
}


def write_comparison(runs: Sequence[Run], path: Path) -> None:
    """Write the page of several runs; a failure leaves no part of a file."""
    write_atomically(path, render(runs).encode())


def render(runs: Sequence[Run]) -> str:
    """The page as text. Facts that an older document does not have are left out."""
    comparisons = build_comparisons(runs)
    limits, legend = auroc_limits(comparisons), {curve.name: curve for comparison in comparisons for curve in comparison.curves}
    interval = runs[0].document.interval
    saved = [(run, _encoder(run, comparisons).name, row) for run in runs if (row := run.document.labels_saved)]
    absent = {"saved": not saved, "differences": not any(comparison.rankings for comparison in comparisons)}
    return render_template(
        "comparison.html.j2",
        sections={id: title for id, title in SECTIONS.items() if not absent.get(id)},
        sentences=_sentences(runs, comparisons),
        notes=_notes(runs, comparisons),
        comparisons=comparisons,
        charts=[draw_chart(comparison, limits[comparison.data], f"chart{i}") for i, comparison in enumerate(comparisons)],
        legend=sorted(legend.values(), key=lambda curve: (curve.number is None, curve.number or 0)),
        interval=interval,
        interval_name=f"{interval.level * 100:g}% interval",
        saved=saved,
        runs=[(run, _encoder(run, comparisons).name, _provenance(run)) for run in runs],
    )


def _sentences(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> list[str]:
    """Three sentences: what was compared, how, and the result."""
    curves = [curve for comparison in comparisons for curve in comparison.curves if curve.number is not None]
    encoders = list({curve.number: curve.name for curve in reversed(curves)}.values())[::-1]
    data = list(dict.fromkeys(comparison.data for comparison in comparisons))
    fractions = {labels: share for comparison in comparisons for labels, share in comparison.shares().items()}
    labels = sorted(fractions, key=lambda name: fractions[name])
    modes = join_words([mode_name(mode) for mode in dict.fromkeys(comparison.mode for comparison in comparisons)])
    tasks = {comparison.data: comparison.task for comparison in comparisons}
    tested = "images" if all(task.counted == "images" for task in tasks.values()) else "data"
    origins = {comparison.data: comparison.curves[0].run.document.data.origin for comparison in comparisons}
    counts = {name: origins[name].count(task.test.n_labels, task.test.n_patients, task.counted) for name, task in tasks.items()}
    images = join_words([f"{count} in {name}" for name, count in counts.items()])
    unseen = "neither its pretraining nor its fine-tuning had seen" if all(map(_leak_free, runs)) else "its fine-tuning had not seen"
    return [
        f"{_counted(len(runs), 'run')} of {_counted(len(encoders), 'encoder')} ({join_words(encoders)}) on "
        f"{_counted(len(data), 'data set')} ({join_words(data)}) {'is' if len(runs) == 1 else 'are'} compared.",
        f"Each classifier ({modes}) was trained with {label_amounts(*labels)} and scored once on test {tested} that {unseen}: {images}.",
        _result(comparisons, headline_fraction(labels)),
    ]


def _result(comparisons: Sequence[Comparison], headline: str) -> str:
    """Which encoders are better than all others at the fraction `headline`, if the intervals show a difference."""
    ranked = [comparison for comparison in comparisons if headline in comparison.rankings]
    if not ranked:
        return "No two of these runs can be ranked: they were not tested on the same images, or have no predictions."
    best = [f"{curve.name} by {mode_name(c.mode)} in {c.data}" for c in ranked if (curve := c.best(headline))]
    start, open_ = f"With {label_amounts(headline)}", len(ranked) - len(best)
    if not best:
        return f"{start} the intervals do not show which is best{'' if open_ == 1 else f', in any of {open_} charts'}."
    rest = f"; in {open_} of {_counted(len(ranked), 'chart')} the intervals do not show which is best" if open_ else ""
    return f"{start} these are better than all others: {join_words(best)}{rest}."


def _notes(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> list[str]:
    """Limits of the comparison that a reader must know."""
    notes = []
    if len({comparison.curves[0].run.test_set for comparison in comparisons}) > 1:
        notes.append("Charts of different data sets are not on the same test images: an encoder's scores must not be ranked across them.")
    for run in runs:
        if run.predictions is None:
            several = run.document.task.kind == "multilabel"
            why = "has a task of several labels" if several else "holds no predictions.parquet"
            notes.append(
                f"{run.title} {why}: whether it was tested on the same test images as another run is not known, so it is not compared."
            )
        if warning := run.document.interval.warning:
            notes.append(f"{run.title}: {warning}")
        if run.leaked:
            notes.append(f"{run.title} was tested on {run.leaked:,} images that its pretraining had seen: its scores are too good.")
    return notes


def _encoder(run: Run, comparisons: Sequence[Comparison]) -> Curve:
    return next(c for comparison in comparisons for c in comparison.curves if c.run is run and c.init not in BASELINES)


def _provenance(run: Run) -> dict[str, str]:
    encoder, data, started = run.document.encoder, run.document.data, run.document.run
    facts = {
        "run folder": run.path,
        "method": encoder.method.get("name"),
        "backbone": encoder.backbone.get("model", encoder.backbone.get("name")),
        "weights": encoder.weights_sha256,
        "data": data.name,
        "data fingerprint": data.fingerprint,
        "seed": str(started.seed),
        "command": started.command,
    }
    return {name: text for name, text in facts.items() if text}


def _leak_free(run: Run) -> bool:
    """Whether it was checked that pretraining saw no test image."""
    check = run.document.leak_check
    return check is not None and not check.leaked


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
