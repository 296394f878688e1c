"""report.html: what a study found, in one file that opens offline, prints, and asks nothing of anywhere.

Everything on the page comes from results.json. Its text (class names, columns, commands) is foreign: the template escapes it, the page
has no script, and its policy (`default-src 'none'`) would not run one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.evaluate.label_draws import headline_fraction
from medssl.files import write_whole
from medssl.report.figures import NAMES, NARROW, WIDE, called, figure_files, figure_png, figure_svg, shown_groups, spoken, subgroups_svg
from medssl.report.formatting import listed, p_value, score, signed, span

if TYPE_CHECKING:
    from medssl.report.visuals import Pictures

__all__ = ["figure_files", "figure_png", "render", "write_report"]

INITS = {"pretrained": "Pretrained encoder", "random": "Same network, random start", "pixels": "Raw pixels, no network"}
FITTED = {
    "linear": "a linear classifier on its frozen features was trained",
    "full": "the whole network, its pretrained weights included, was trained",
    "knn": "a vote of the nearest labelled images by its frozen features was taken",
}
TABLES = {
    "All scores": {
        "auroc": "AUROC",
        "auprc": "AUPRC",
        "accuracy": "Accuracy",
        "balanced_accuracy": "Balanced accuracy",
        "f1": "F1",
        "quadratic_kappa": "Quadratic kappa",
    },
    "Operating points and calibration": {
        "sensitivity_at_95_specificity": "Sensitivity at 95% specificity",
        "specificity_at_95_sensitivity": "Specificity at 95% sensitivity",
        "brier": "Brier score",
        "ece": "ECE",
        "ece_scaled": "ECE after temperature",
    },
}
COUNTED = ("modality", "view", "sex", "scanner", "site", "size", "bits")
_SHOWN_ITEMS = 8
_PAPER_NAMES = {"pnnclr": "pNNCLR", "nnclr": "NNCLR"}


def write_report(document: Mapping[str, Any], path: Path, pictures: "Pictures | None" = None) -> None:
    """The page of a results.json document, with the pictures of a showcase where there are some; whole or not at all."""
    write_whole(path, render(document, pictures).encode())


def render(document: Mapping[str, Any], pictures: "Pictures | None" = None) -> str:
    """The page as text.

    Of the facts in the document it reads, each where it is there: `data.name`, `encoder.method.name`, `encoder.backbone.model`,
    `encoder.pretraining` (numbers of "patients" and different "pixels"), `leak_check` (what refuse_leak compared), `audit` (that of the
    data) and `run.command`. All facts in data, encoder, leak check and run are listed under provenance as they are.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
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
        "count": lambda n: f"{n:,}",
        "range": _range,
        "p": p_value,
        "called": lambda row, names=NAMES: called(row, document["summary"], names),
        "drawn": Markup,  # our own drawings: matplotlib escapes their text
        "alike": _alike,
    }
    return environment.get_template("report.html.j2").render(
        **_facts(document),
        wide=Markup(figure_svg(document, WIDE, "wide")),  # noqa: S704 - drawn here, its text escaped by matplotlib
        narrow=Markup(figure_svg(document, NARROW, "narrow")),  # noqa: S704
        subgroups_wide=Markup(subgroups_svg(document, WIDE[0], "groups-wide")),  # noqa: S704
        subgroups_narrow=Markup(subgroups_svg(document, NARROW[0], "groups-narrow")),  # noqa: S704
        pictures=pictures,
        contents=_contents(document, pictures),
        inits=INITS,
        names=NAMES,
    )


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the page reads from the document."""
    summary, task = document["summary"], {"kind": "multiclass", **document["task"]}
    fractions = list(dict.fromkeys(row["labels"] for row in summary))
    headline = headline_fraction(fractions)
    ours, groups = _row(document, headline), shown_groups(document)
    shown = {metric for metrics in TABLES.values() for metric in metrics if any(row.get(metric) for row in summary)}
    return {
        "name": document.get("data", {}).get("name", task["column"]),
        "sentences": _sentences(document, headline),
        "groups": {labels: [row for row in summary if row["labels"] == labels] for labels in fractions},
        "order": list(dict.fromkeys(called(row, summary) for row in summary)),
        "headline": headline,
        "ours": ours,
        "per_class": ours.get("per_class", []),
        "tested": {entry["name"]: entry["test"] for entry in task["classes"]},
        "gains": [row for row in document["paired"] if row["labels"] == headline and row["mode"] == ours["mode"]],
        "paired": document["paired"],
        "saved": document["labels_saved"],
        "shown": shown,
        "tables": {title: {m: said for m, said in metrics.items() if m in shown} for title, metrics in TABLES.items()},
        "subgroups": groups,
        "kinds": {by: list(rows) for by, rows in groupby(groups, lambda row: row["by"])},
        "site_probe": document.get("site_probe"),
        "audit": _audited(document.get("audit")),
        "counted": _counted(document.get("audit")),
        "task": task,
        "interval": document["interval"],
        "provenance": {s: list(_flat(document[s])) for s in ("data", "encoder", "leak_check", "run") if s in document},
        "command": document.get("run", {}).get("command", ""),
    }


def _contents(document: Mapping[str, Any], pictures: "Pictures | None") -> list[tuple[str, str]]:
    """The sections that this page has, id and name."""
    sections = {
        "curve": ("Label efficiency", True),
        "scores-1": ("Scores", True),
        "gains": ("What pretraining gained", True),
        "performance": ("Finds and misses", pictures),
        "per-class": ("Class by class", document["summary"][0].get("per_class")),
        "subgroups": ("Groups of patients", document.get("subgroups") or document.get("site_probe")),
        "features": ("Map of the images", pictures),
        "neighbours": ("Nearest neighbours", pictures and pictures.gallery),
        "looked": ("Where it looked", pictures),
        "audit": ("The data", document.get("audit")),
        "reading": ("How to read this", True),
        "provenance": ("Provenance", True),
    }
    return [(name, title) for name, (title, there) in sections.items() if there]


def _audited(audit: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The audit's sentences, but for what is counted by value."""
    if not audit:
        return []
    from medssl.data.audit import audit_lines

    return [(heading, said) for heading, said in audit_lines(audit) if heading not in {*COUNTED, "label"}]


def _counted(audit: Mapping[str, Any] | None) -> dict[str, Mapping[str, int]]:
    """How many images have each value of what the audit counted."""
    if not audit:
        return {}
    return {name: audit[name] for name in COUNTED if name in audit} | {f"label: {name}": counts for name, counts in audit["labels"].items()}


def _alike(gallery: Sequence[Sequence[Any]]) -> str:
    marks = [tile.good for row in gallery for tile in row if tile.good is not None]
    return f"{sum(marks)} of these {len(marks)} neighbours are labelled like their test image."


def _sentences(document: Mapping[str, Any], headline: str) -> list[str]:
    """What was done and found, in three sentences."""
    task, encoder, ours = document["task"], document.get("encoder", {}), _row(document, headline)
    method, backbone, seen = (encoder.get(key, {}) for key in ("method", "backbone", "pretraining"))
    name = method.get("name", "")
    network = f"An encoder ({backbone.get('model', backbone['name'])})" if backbone else "An encoder"
    material = f" on {seen['pixels']:,} different images of {seen['patients']:,} patients" if seen else ""
    shares = listed([spoken(labels) for labels in dict.fromkeys(row["labels"] for row in document["summary"])])
    draws = max(row["draws"] for row in document["summary"])
    drawn = f", in up to {draws} draws of patients," if draws > 1 else ""
    tested = f"{task['test']['n_labels']:,} images of {task['test']['n_patients']:,} patients"
    unseen = _unseen(document.get("leak_check"))
    reached = f"{score(ours['auroc']['mean'])} ({document['interval']['level']:.0%} interval {span(ours['auroc'])})"
    return [
        f"{network} was pretrained with {_PAPER_NAMES.get(name, name) or 'self-supervision'}{material}, without looking at a label.",
        f"Then {FITTED[ours['mode']]} with {shares} of the labels{drawn} to tell {_told(task)}, and each classifier was scored once on "
        f"{tested} {unseen}.",
        f"With {spoken(headline)} of the labels ({_range(ours['n_labels'])} images) the pretrained encoder reached an AUROC of {reached}"
        f"{_gained(document, headline)}.",
    ]


def _told(task: Mapping[str, Any]) -> str:
    names = [entry["name"] for entry in task["classes"]]
    if task.get("kind") == "multilabel":
        return f"which of {listed(names)} an image shows"
    return f"{names[1]} from {names[0]}" if len(names) == 2 else f"{listed(names)} apart"


def _unseen(leak_check: Mapping[str, int] | None) -> str:
    if leak_check is None:
        return "that its fine-tuning had not seen"
    if leaked := leak_check["leaked"]:
        return f"that its fine-tuning had not seen; but its pretraining had seen {leaked:,} of them: the scores are too good"
    return "that neither its pretraining nor its fine-tuning had seen"


def _gained(document: Mapping[str, Any], headline: str) -> str:
    """The difference from a random start, where that was run, and whether its interval leaves the question open."""
    ours = _row(document, headline)
    rows = [row for row in document["paired"] if (row["labels"], row["mode"], row["versus"]) == (headline, ours["mode"], "random")]
    if not rows:
        return ""
    (row,) = rows
    than = f", {score(abs(row['auroc_gain']))} {'more' if row['auroc_gain'] >= 0 else 'less'} than the same network from a random start"
    verdict = "does not include zero" if row["low"] > 0 or row["high"] < 0 else "includes zero, so it may be chance"
    return f"{than}; the interval of that difference ({signed(row['low'])} to {signed(row['high'])}) {verdict}"


def _row(document: Mapping[str, Any], labels: str) -> Mapping[str, Any]:
    """The summary's row of the first initialisation at a fraction."""
    return next(row for row in document["summary"] if row["labels"] == labels)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (name, text) pairs; long lists as their length."""
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, Mapping):
            yield from _flat(item, f"{name}: ")
        elif isinstance(item, Sequence) and not isinstance(item, str):
            yield name, ", ".join(map(str, item)) if len(item) <= _SHOWN_ITEMS else f"{len(item):,} entries"
        else:
            yield name, f"{item:.4g}" if isinstance(item, float) else str(item)


def _range(counts: Mapping[str, int]) -> str:
    low, high = counts["low"], counts["high"]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
