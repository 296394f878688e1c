"""report.html of a pretraining: what was read, the views, the neighbours, how the training went, and what to do next.

The page is made from the files of the run folder alone. Its text (method, network, labels) is foreign: the template escapes it. Without a
script, and without a request: the two pictures are inside the page.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.data.patients import PatientOrigin
from medssl.data.split import seen_counts
from medssl.data.volume_slices import samples_of
from medssl.encoder.artefact import CARD
from medssl.errors import UserError
from medssl.files import write_atomically
from medssl.report.figures import end_at_one
from medssl.report.page import audit_counts, audit_sentences, flat_facts
from medssl.report.rendering import render_template
from medssl.report.theme import INK, LINE, SERIES, Chart, figure_style, label_axes, new_figure
from medssl.tracking import jsonl

AUDIT, METRICS, VIEWS, NEIGHBOURS = "audit.json", "metrics.jsonl", "views.png", "neighbours.png"
SECTIONS = {
    "curves": "How the training went",
    "views": "The views",
    "neighbours": "Nearest neighbours",
    "audit": "The data",
    "cost": "Time and cost",
    "next": "What to do next",
    "reading": "How to read this page",
    "provenance": "Provenance",
}
CURVES: dict[str, tuple[str, Mapping[str, str]]] = {
    "loss": ("Training loss", {"loss": "loss"}),
    "quality": ("AUROC of held-out {units}", {"knn": "kNN", "probe": "linear probe"}),
    "spread": ("Spread of the embeddings", {"embedding_std": "spread"}),
    "rank": ("RankMe of the features", {"rankme": "RankMe"}),
    "agreement": ("Neighbours with the same label", {"nn_label_agreement": "neighbours", "nn_label_chance": "chance"}),
    "learning_rate": ("Learning rate", {"lr": "learning rate"}),
}
_SIZE = (3.9, 2.3)  # inches
_SECONDS_AN_HOUR, _SECONDS_A_MINUTE = 3600, 60

Rows = Sequence[Mapping[str, Any]]


def copy_audit(store: Path, run: Path) -> None:
    """Keep the audit of the store in the run folder, as the store may be gone when the page is written again."""
    if (store / AUDIT).is_file():
        write_atomically(run / AUDIT, (store / AUDIT).read_bytes())


def write_pretraining_page(run: Path, path: Path, next_command: str) -> None:
    """Write the page of a finished pretraining in the folder `run`; the whole file or none. `next_command`: what the page advises.

    Raises UserError where the run has no card of an encoder, which means that it is not finished.
    """
    card = _read_json(run / CARD)
    if card is None:
        raise UserError(f"The pretraining in {run} is not finished: it has no {CARD}. Continue with: medssl pretrain --resume {run}")
    rows = jsonl.read(run / METRICS)
    write_atomically(path, render(card, rows, _read_json(run / AUDIT), _pictures(run), next_command).encode())


def render(card: Mapping[str, Any], rows: Rows, audit: Mapping[str, Any] | None, pictures: Mapping[str, str], command: str) -> str:
    """The page as text. `rows`: those of metrics.jsonl. `pictures`: data URIs of views and neighbours, where they are there."""
    samples = samples_of(card)
    units = samples.split()[0]  # "images", "volumes" or "slices"
    charts, last = draw_curves(rows, units), _last_values(rows)
    absent = {"curves": not charts, "audit": not audit, **{name: name not in pictures for name in ("views", "neighbours")}}
    method, start, seen = card["method"], card.get("start", {}), _seen_here(card)
    return render_template(
        "pretraining.html.j2",
        method=method,
        network=card["backbone"].get("model", card["backbone"]["name"]),
        start=start.get("file", ""),
        number=seen["pixels"],
        samples=samples,
        units=units,
        unit=units.removesuffix("s"),
        a_unit=f"{'an' if units == 'images' else 'a'} {units.removesuffix('s')}",
        patches=card.get("preparation", {}).get("settings", {}).get("volumes") == "patches",
        people=PatientOrigin.by(card.get("data", {})).people(seen["patients"]),
        steps=int(last.get("step", 0)),
        batch_size=card["config"]["train"]["batch_size"],
        sections={id: title for id, title in SECTIONS.items() if not absent.get(id)},
        numbers=_numbers(last, units),
        charts=charts,
        pictures=pictures,
        audit=audit_sentences(audit) if audit else [],
        counts=audit_counts(audit) if audit else {},
        cost=_cost(rows, card, units),
        command=command,
        provenance={
            part: list(flat_facts(card[part])) for part in ("data", "preparation", "start", "provenance", "config") if part in card
        },
    )


def _seen_here(card: Mapping[str, Any]) -> dict[str, int]:
    """How many patients and different images this pretraining has seen, without those that only the weights of its start had seen."""
    before = card.get("start", {}).get("seen_before", {})
    return {name: count - before.get(name, 0) for name, count in seen_counts(card).items()}


def draw_curves(rows: Rows, units: str) -> dict[str, Chart]:
    """The curves of the metrics that the run has, by name, over the steps. `units`: what was trained on, as "images"."""
    charts = {}
    with figure_style():
        for name, (title, series) in CURVES.items():
            points = {label: [(row["step"], row[key]) for row in rows if row.get(key) is not None] for key, label in series.items()}
            points = {label: found for label, found in points.items() if found}
            if not points:
                continue
            figure, axes = new_figure(_SIZE)
            axes.grid(axis="y", color=LINE, linewidth=0.8)
            for number, (label, found) in enumerate(points.items()):
                x, y = zip(*found, strict=True)
                axes.plot(x, y, color=SERIES[number], linewidth=1.6, marker="o" if len(x) < 20 else "", markersize=3.5, label=label)
            if len(points) > 1:
                axes.legend(frameon=False, labelcolor=INK, fontsize=8)
            if name == "quality":
                end_at_one(axes.yaxis, axes.set_ylim)
            label_axes(axes, title.format(units=units), "step")
            figure.set_layout_engine(None)  # the margins are the same in all of them, so that no layout has to be found
            figure.subplots_adjust(left=0.15, right=0.97, top=0.89, bottom=0.2)
            charts[name] = Chart(figure, f"pretraining-{name}")
    return charts


def _last_values(rows: Rows) -> dict[str, float]:
    """The newest finite value of each metric."""
    return {name: value for row in rows for name, value in row.items() if value is not None}


def _numbers(last: Mapping[str, float], units: str) -> list[tuple[str, str, str]]:
    """The headline figures as (figure, name, meaning)."""
    known = {
        "knn": ("AUROC of kNN", f"on training {units} that were held out; chance is 0.5", ".3f"),
        "probe": ("AUROC of a linear probe", f"on the same {units}", ".3f"),
        "rankme": ("RankMe", "how many dimensions of the features are in use", ".1f"),
        "embedding_std": ("spread of the embeddings", "1 is a sphere, 0 is a point", ".2f"),
    }
    return [(format(last[key], form), name, meaning) for key, (name, meaning, form) in known.items() if key in last]


def _cost(rows: Rows, card: Mapping[str, Any], units: str) -> list[tuple[str, str]]:
    """Time of the training steps, without preparation, evaluations and pauses, from the measured speeds."""
    batch_size, seconds, before = card["config"]["train"]["batch_size"], 0.0, 0
    for row in rows:
        if (speed := row.get("images_per_second")) and row["step"] > before:
            seconds += (row["step"] - before) * batch_size / speed
            before = row["step"]
    if not seconds:
        return []
    return [
        ("training steps", format_duration(seconds)),
        ("speed", f"{before * batch_size / seconds:,.0f} {units} per second on average, each seen in two views or more"),
        (
            f"{units} seen",
            f"{before * batch_size:,} (each {units.removesuffix('s')} {before * batch_size / _seen_here(card)['pixels']:,.1f} times)",
        ),
        ("device", str(card["config"]["device"])),
    ]


def format_duration(seconds: float) -> str:
    """A duration in the unit that suits it: "42 seconds", "12.6 minutes", "3.5 hours"."""
    if seconds < 2 * _SECONDS_A_MINUTE:
        return f"{seconds:.0f} seconds"
    if seconds < 2 * _SECONDS_AN_HOUR:
        return f"{seconds / _SECONDS_A_MINUTE:.1f} minutes"
    return f"{seconds / _SECONDS_AN_HOUR:.1f} hours"


def _pictures(run: Path) -> dict[str, str]:
    found = {"views": run / VIEWS, "neighbours": run / NEIGHBOURS}
    return {name: f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for name, path in found.items() if path.is_file()}


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
