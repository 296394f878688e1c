"""comparison.html: several runs on one page; as the report of one run a single file, offline, without script, foreign text escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.compare.charts import chart, heights, look
from medssl.compare.runs import BASELINES, Line, Panel, Run, joined
from medssl.evaluate.label_draws import headline_fraction
from medssl.files import write_whole
from medssl.report.figures import spoken
from medssl.report.formatting import listed, p_value, score, signed, span

MODES = {"linear": "linear probe", "knn": "nearest neighbours", "full": "whole network"}


def write_comparison(runs: Sequence[Run], path: Path) -> None:
    """The page of several runs, whole or not at all."""
    write_whole(path, render(runs).encode())


def render(runs: Sequence[Run]) -> str:
    """The page as text. What a document does not hold (older ones have less) is left out."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "report" / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": score,
        "signed": signed,
        "span": span,
        "spoken": spoken,
        "look": look,
        "mode": lambda mode: MODES.get(mode, mode),
        "p": p_value,
    }
    panels = joined(runs)
    drawn, legend = heights(panels), {line.name: line for panel in panels for line in panel.lines}
    return environment.get_template("comparison.html.j2").render(
        sentences=_sentences(runs, panels),
        notes=list(_notes(runs, panels)),
        panels=panels,
        charts=[Markup(chart(panel, drawn[panel.data], f"chart{i}")) for i, panel in enumerate(panels)],  # noqa: S704 - drawn here
        legend=sorted(legend.values(), key=lambda line: (line.slot is None, line.slot or 0)),
        interval=runs[0].document["interval"],
        saved=[(run, _encoder(run, panels), saved) for run in runs if (saved := run.document.get("labels_saved"))],
        runs=[(run, _encoder(run, panels), _provenance(run)) for run in runs],
    )


def _sentences(runs: Sequence[Run], panels: Sequence[Panel]) -> list[str]:
    """What was compared, how, and what was found, in three sentences."""
    encoders = list(dict.fromkeys(line.name for panel in panels for line in panel.lines if line.slot is not None))
    data = list(dict.fromkeys(panel.data for panel in panels))
    fractions = {labels: row["fraction"] for panel in panels for line in panel.lines for labels, row in line.rows.items()}
    shares = sorted(fractions, key=lambda labels: fractions[labels])
    ways = listed([MODES.get(mode, mode) for mode in dict.fromkeys(panel.mode for panel in panels)])
    tested = {panel.data: panel.task["test"] for panel in panels}
    images = listed([f"{test['n_labels']:,} images of {test['n_patients']:,} patients in {name}" for name, test in tested.items()])
    sides = "neither its pretraining nor its fine-tuning" if all(_checked(run) for run in runs) else "its fine-tuning"
    return [
        f"{_counted(len(runs), 'run')} of {_counted(len(encoders), 'encoder')} ({listed(encoders)}) on {_counted(len(data), 'data set')} "
        f"({listed(data)}) {'is' if len(runs) == 1 else 'are'} shown together.",
        f"Each classifier ({ways}) was given {listed([spoken(labels) for labels in shares])} of the labels and scored once on test images "
        f"that {sides} had{' not' if sides == 'its fine-tuning' else ''} seen: {images}.",
        _found(panels, headline_fraction(shares)),
    ]


def _found(panels: Sequence[Panel], headline: str) -> str:
    """Which are ahead at the headline's fraction, as far as the intervals tell."""
    ranked = [panel for panel in panels if headline in panel.orders]
    if not ranked:
        return "No two of these runs can be ranked: they were not tested on the same images, or hold no predictions."
    told = [f"{first.name} in {panel.data} ({MODES.get(panel.mode, panel.mode)})" for panel in ranked if (first := panel.ahead(headline))]
    start, undecided = f"With {spoken(headline)} of the labels", len(ranked) - len(told)
    if not told:
        return f"{start} the intervals leave open which is best{'' if undecided == 1 else f', in all {undecided} charts'}."
    left = f"; in {undecided} of {_counted(len(ranked), 'chart')} the intervals leave open which is best" if undecided else ""
    return f"{start} these are ahead of all others: {listed(told)}{left}."


def _notes(runs: Sequence[Run], panels: Sequence[Panel]) -> list[str]:
    """What a reader must know before he compares anything."""
    notes = []
    if len({panel.lines[0].run.question for panel in panels}) > 1:
        notes.append("Charts of different data sets are not on the same test images: an encoder's scores must not be ranked across them.")
    for run in runs:
        if run.predictions is None:
            why = "asks for several labels at once" if run.document["task"].get("kind") == "multilabel" else "holds no predictions.parquet"
            notes.append(f"{run.name} {why}: whether it was tested on the same test images as another run is not known; it stands alone.")
        if run.leaked:
            notes.append(f"{run.name} was tested on {run.leaked:,} images that its pretraining had seen: its scores are too good.")
    return notes


def _encoder(run: Run, panels: Sequence[Panel]) -> Line:
    return next(line for panel in panels for line in panel.lines if line.run is run and line.init not in BASELINES)


def _provenance(run: Run) -> dict[str, str]:
    document = run.document
    encoder, data = document.get("encoder", {}), document.get("data", {})
    backbone = encoder.get("backbone", {})
    facts = {
        "method": encoder.get("method", {}).get("name"),
        "backbone": backbone.get("model", backbone.get("name")),
        "weights": encoder.get("weights_sha256"),
        "data": data.get("name"),
        "data fingerprint": data.get("fingerprint"),
        "seed": document.get("run", {}).get("seed"),
        "command": document.get("run", {}).get("command"),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _checked(run: Run) -> bool:
    """Whether it was made sure that pretraining saw no test image."""
    check: Mapping[str, Any] | None = run.document.get("leak_check")
    return check is not None and not check["leaked"]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
