"""report.html: what a study found, in one file that opens offline and prints.

All numbers on the page come from results.json. Its text (class names, columns, commands) is foreign: the templates escape it. The page has
no script, and its policy (`default-src 'none'`) would not run one or load anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.data.patients import PatientOrigin
from medssl.evaluate.label_draws import headline_fraction
from medssl.evaluate.schema import EncoderFacts, PairedRow, ResultsDocument, SummaryRow
from medssl.files import write_atomically
from medssl.report.figures import NARROW, WIDE, figure_svg, headline_subgroups, subgroups_svg
from medssl.report.formatting import (
    an_image_or_volume,
    data_and_label,
    format_difference_interval,
    format_interval,
    format_range,
    format_score,
    label_amounts,
    question_in_words,
    series_name,
)
from medssl.report.rendering import render_template
from medssl.report.theme import series_style

if TYPE_CHECKING:
    from medssl.report.visuals import Pictures

SECTIONS = {
    "curve": "Label efficiency",
    "scores": "Scores",
    "operating-points": "Operating points",
    "gains": "Gain from pretraining",
    "performance": "Discrimination and calibration",
    "per-class": "Scores of each class",
    "subgroups": "Subgroups",
    "features": "Map of the features",
    "neighbours": "Nearest neighbours",
    "grad-cam": "Grad-CAM",
    "audit": "The data",
    "reading": "How to read this page",
    "provenance": "Provenance",
}
METRICS = {
    "scores": {
        "auroc": "AUROC",
        "auprc": "AUPRC",
        "accuracy": "Accuracy",
        "balanced_accuracy": "Balanced accuracy",
        "f1": "F1",
        "quadratic_kappa": "Quadratic kappa",
    },
    "operating-points": {
        "sensitivity_at_95_specificity": "Sensitivity at 95% specificity",
        "specificity_at_95_sensitivity": "Specificity at 95% sensitivity",
        "brier": "Brier score",
        "ece": "ECE",
        "ece_scaled": "ECE after temperature scaling",
    },
}
_TRAINED = {
    "linear": "a linear classifier of its frozen features was trained",
    "full": "the whole network was fine-tuned",
    "knn": "a nearest-neighbour classifier of its frozen features was fitted",
}
_COUNTED = ("modality", "view", "sex", "scanner", "site", "size", "bits")  # facts of the audit that are shown as bars
_MAX_ITEMS = 8


def write_report(document: ResultsDocument, path: Path, pictures: "Pictures | None" = None) -> None:
    """Write the page of a results.json document, with `pictures` where there are some; the whole file or none."""
    write_atomically(path, render(document, pictures).encode())


def render(document: ResultsDocument, pictures: "Pictures | None" = None) -> str:
    """The page as text.

    The sentences and the table of the task use what the document knows of data, encoder and leaks. All facts of data, encoder, leak check
    and run stand under provenance.
    """
    summary, facts, units = document.summary, document.to_dict(), document.task.counted.removeprefix("whole ")
    fractions = list(dict.fromkeys(row.labels for row in summary))
    headline = headline_fraction(fractions)
    main, subgroups, audit = _main_row(document, headline), headline_subgroups(document), document.audit
    metrics = {
        id: {metric: name for metric, name in names.items() if any(hasattr(row, metric) for row in summary)}
        for id, names in METRICS.items()
    }
    names = dict.fromkeys(series_name(row, summary) for row in summary)
    absent = {
        "operating-points": not metrics["operating-points"],
        "per-class": not main.per_class,
        "subgroups": not subgroups and not document.site_probe,
        "audit": not audit,
        "performance": pictures is None,
        **dict.fromkeys(("features", "grad-cam"), pictures is None or not pictures.fitted),
        "neighbours": pictures is None or not pictures.neighbours,
    }
    return render_template(
        "report.html.j2",
        document=document,
        origin=document.data.origin,
        warnings=[text for text in (document.interval.warning, *document.data.origin.sentences(units)) if text],
        task=document.task,
        units=units,
        unit=units.removesuffix("s"),
        of_slices=document.task.counted == "volumes",
        a_unit=an_image_or_volume(document.task),
        name=data_and_label(document),
        sections={id: title for id, title in SECTIONS.items() if not absent.get(id)},
        sentences=_sentences(document, headline),
        fractions={labels: [(series_name(row, summary), row) for row in summary if row.labels == labels] for labels in fractions},
        styles={name: series_style(i) for i, name in enumerate(names)},
        headline=headline,
        main=main,
        gains=[row for row in document.paired if (row.labels, row.mode) == (headline, main.mode)],
        saved=document.labels_saved,
        metrics=metrics,
        subgroups={by: list(rows) for by, rows in groupby(subgroups, lambda row: row.by)},
        site_probe=document.site_probe,
        audit=audit_sentences(audit) if audit else [],
        counts=audit_counts(audit) if audit else {},
        provenance={part: list(flat_facts(facts[part])) for part in ("data", "encoder", "leak_check", "run") if facts.get(part)},
        command=document.run.command,
        curve={"wide": figure_svg(document, WIDE, "wide"), "narrow": figure_svg(document, NARROW, "narrow")},
        subgroup_figure={
            "wide": subgroups_svg(document, WIDE[0], "groups-wide"),
            "narrow": subgroups_svg(document, NARROW[0], "groups-narrow"),
        },
        pictures=pictures,
    )


def _main_row(document: ResultsDocument, labels: str) -> SummaryRow:
    """The summary's row of the first mode and initialisation at a fraction."""
    return next(row for row in document.summary if row.labels == labels)


def _sentences(document: ResultsDocument, headline: str) -> list[str]:
    """What was done and what was found, in three sentences; one more where raw pixels are better, and where pretraining started from
    weights."""
    task, main, summary = document.task, _main_row(document, headline), document.summary
    draws = max((row.draws for row in summary if row.fraction < 1), default=1)  # all labels are drawn in one way
    repeated = f", in up to {draws} draws of {document.data.origin.units}," if draws > 1 else ""
    tested = document.data.origin.count(task.test.n_labels, task.test.n_patients, task.counted)
    untold = document.interval.warning or main.auroc.low is None
    interval = "" if untold else f" ({document.interval.level:.0%} interval {format_interval(main.auroc)})"
    score = f"{format_score(main.auroc.mean)}{interval}"
    over_random = _difference_from(document, main, "random", "the same network from random initialisation")
    return [
        _pretraining_sentence(document.encoder),
        f"Then {_TRAINED[main.mode]} with {label_amounts(*dict.fromkeys(row.labels for row in summary))}{repeated} to predict "
        f"{question_in_words(task)}; each classifier was scored once on {tested} {_test_exposure(document)}.",
        f"With {label_amounts(headline)} ({format_range(main.n_labels)} {task.counted}) the encoder reached an AUROC of {score}"
        f"{f', {over_random}' if over_random else ''}.",
        *(f"{sentence}." for sentence in (_loss_to_pixels(document, main), _added_by_pretraining(document, main)) if sentence),
    ]


def _pretraining_sentence(encoder: EncoderFacts) -> str:
    """How the encoder was trained. Of a card that does not say whether labels were used, nothing is said about labels."""
    method, backbone, data = encoder.method, encoder.backbone, encoder.pretraining
    network = f"An encoder ({backbone.get('model', backbone['name'])})" if backbone else "An encoder"
    data = {name: count - encoder.start.get("seen_before", {}).get(name, 0) for name, count in data.items()}
    people = PatientOrigin.by({"patients": encoder.patients}).people(data["patients"]) if data else ""
    images = f"{data['pixels']:,} different {encoder.samples} of {people}" if data else ""
    if encoder.start and not method.get("name"):
        return f"{network} has the weights of {encoder.start['file']}, which medssl has not trained."
    before = f", starting from the weights of {encoder.start['file']}" if encoder.start else ""
    if method.get("uses_labels"):
        every = f"the labels of all its training {encoder.samples.split()[0]}"
        return f"{network} was trained with {every}{f': {images}' if images else ''}{before}."
    how = f" with {method.get('title', method['name'])}" if method else ""
    without = ", without looking at a label" if "uses_labels" in method else ""
    return f"{network} was pretrained{how}{f' on {images}' if images else ''}{without}{before}."


def _test_exposure(document: ResultsDocument) -> str:
    """Whether pretraining or fine-tuning had seen the test images."""
    leak_check, them = document.leak_check, "their slices" if document.task.counted == "volumes" else "them"
    if leak_check is None:
        return "that its fine-tuning had not seen"
    if leaked := leak_check.leaked:
        return f"that its fine-tuning had not seen; but its pretraining had seen {leaked:,} of {them}: the scores are too good"
    return "that neither its pretraining nor its fine-tuning had seen"


def _loss_to_pixels(document: ResultsDocument, main: SummaryRow) -> str:
    """By how much the encoder is behind raw pixels; "" where it is not."""
    row = _paired_row(document, main, "pixels")
    if row is None or row.auroc_gain >= 0:
        return ""
    return f"The AUROC is {_difference_from(document, main, 'pixels', 'that of raw pixels, without an encoder')}"


def _added_by_pretraining(document: ResultsDocument, main: SummaryRow) -> str:
    """What pretraining on these images added to the weights that it started from; "" where it started from random numbers."""
    name = f"the weights before this pretraining ({document.encoder.start.get('file', 'unknown file')})"
    found = _difference_from(document, main, "start", name)
    return f"What pretraining added to the weights that it started from: the AUROC is {found}" if found else ""


def _difference_from(document: ResultsDocument, main: SummaryRow, init: str, name: str) -> str:
    """The difference from another initialisation, where that was run, and whether its interval includes zero. `name`: what that is."""
    row = _paired_row(document, main, init)
    if row is None:
        return ""
    size = f"{format_score(abs(row.auroc_gain))} {'more' if row.auroc_gain >= 0 else 'less'}"
    if document.interval.warning or row.low is None or row.high is None:
        return f"{size} than {name}"
    verdict = "does not include zero" if row.low > 0 or row.high < 0 else "includes zero, so it may be chance"
    interval = format_difference_interval(row.low, row.high)
    return f"{size} than {name}; the interval of that difference ({interval}) {verdict}"


def _paired_row(document: ResultsDocument, main: SummaryRow, init: str) -> PairedRow | None:
    """The difference of the summary's row from another initialisation, where that was run."""
    wanted = main.labels, main.mode, init
    return next((row for row in document.paired if (row.labels, row.mode, row.versus) == wanted), None)


def audit_sentences(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The audit as pairs of heading and sentence, without the facts that are shown as bars."""
    from medssl.data.audit import audit_lines

    return [(heading, sentence) for heading, sentence in audit_lines(audit) if heading not in {*_COUNTED, "label"}]


def audit_counts(audit: Mapping[str, Any]) -> dict[str, Mapping[str, int]]:
    """How many images have each value, by the name of the fact; of labels that belong to volumes, how many volumes."""
    of_volumes = audit.get("volumes", {}).get("labels", {})
    return {name: audit[name] for name in _COUNTED if name in audit} | {
        f"label: {name}" + (" (volumes)" if name in of_volumes else ""): of_volumes.get(name, counts)
        for name, counts in audit["labels"].items()
    }


def flat_facts(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as pairs of name and text; a long list as its length."""
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, Mapping):
            yield from flat_facts(item, f"{name}: ")
        elif isinstance(item, Sequence) and not isinstance(item, str):
            yield name, ", ".join(map(str, item)) if len(item) <= _MAX_ITEMS else f"{len(item):,} entries"
        else:
            yield name, f"{item:.4g}" if isinstance(item, float) else str(item)
