"""What a person should know of prepared data before training on it: counts, what was left out, leaks, and a contact sheet to look at."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from medssl.data.split import leaks
from medssl.data.store import EXPECTED_REASONS, Store, create_private, write_private
from medssl.types import SPLITS, Source

_MOST = 20  # values of a kind that are listed; the rest is counted together
_TILE, _COLUMNS, _TILES = 128, 8, 64
_REMEDY = "pretraining and fine-tuning on the split that comes with the data will refuse this; see data.leaks"


def write_audit(store: Store, source: Source) -> None:
    """audit.json and contact_sheet.png into the store's folder."""
    write_private(store.path / "audit.json", json.dumps(audit(store, source), indent=1))
    with create_private(store.path / "contact_sheet.png") as file:
        contact_sheet(store).save(file, "PNG")


def audit(store: Store, source: Source) -> dict[str, Any]:
    """The counts of a store, for audit.json: keyed hashes have been counted, no identity is in it."""
    table, counts = store.table, store.card["counts"]
    labels = [str(name).removeprefix("label:") for name in table if str(name).startswith("label:")]
    splits, each = table["split"].to_numpy(str), table["patient"].value_counts().to_numpy()
    return {
        "source": source.kind,
        "notes": list(source.notes),
        "images": {"found": counts["records"] + len(source.skipped), "used": counts["used"], "skipped": counts["skipped"]},
        "patients": {
            "count": len(each),
            "images_each": {"least": int(each.min()), "median": float(np.median(each)), "most": int(each.max())},
            **{kind: table[column].replace("", None).nunique() for kind, column in (("studies", "study"), ("series", "series"))},
        },
        **{name: _counted(table[column]) for name, column in _columns(table)},
        "size": _counted(f"{width} x {height}" for width, height in table[["width", "height"]].to_numpy()),
        "spacing_mm": _spacing(table),
        "bits": _counted(table["bits"]),
        "labels": {name: _counted(table[f"label:{name}"]) for name in labels},
        "splits": {
            split: {"images": int((splits == split).sum()), "patients": table.loc[splits == split, "patient"].nunique()}
            for split in SPLITS
            if (splits == split).any()
        },
        "duplicates": _duplicates(store),
    }


def audit_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The audit for a person, as (heading, sentence)."""
    images, patients = found["images"], found["patients"]
    yield "images", f"{images['used']} used of {images['found']} found ({found['source']})"
    for name, number in images["skipped"].items():
        yield "", f"{number} left out: {name}" + ("" if name in EXPECTED_REASONS else " (a fault)")
    each = patients["images_each"]
    more = ", ".join(f"{patients[kind]} {kind}" for kind in ("studies", "series") if patients[kind])
    yield "patients", f"{patients['count']}{', ' if more else ''}{more}; images each: {each['median']} (up to {each['most']})"
    for name in ("modality", "view", "sex", "scanner", "site", "size", "bits"):
        if name in found:
            yield name, _listed(found[name])
    spacing = found["spacing_mm"]
    if spacing["known"]:
        yield "spacing", f"{spacing['least']} to {spacing['most']} mm, median {spacing['median']}; {spacing['unknown']} images do not say"
    for name, values in found["labels"].items():
        yield "label", f"{name}: {_listed(values)}"
    for name, split in found["splits"].items():
        yield "split", f"{name}: {split['images']} images of {split['patients']} patients"
    same = found["duplicates"]
    yield "copies", f"{same['equal']} images have the same pixels as another one" if same["equal"] else "no two images have the same pixels"
    for sentence in same["leaks"]:
        yield "leak", sentence
    if same["refused"]:
        yield "", _REMEDY
    for note in found["notes"]:
        yield "note", note


def contact_sheet(store: Store) -> Image.Image:
    """64 images spread over the store, each over its row and first label; of several channels the first three are red, green, blue."""
    rows = np.unique(np.linspace(0, len(store.images) - 1, min(_TILES, len(store.images))).astype(int)).tolist()
    labels = [str(name) for name in store.table if str(name).startswith("label:")]
    caption = 14
    height = math.ceil(len(rows) / _COLUMNS) * (_TILE + caption)
    sheet = Image.new("RGB", (min(len(rows), _COLUMNS) * _TILE, height), "black")
    draw = ImageDraw.Draw(sheet)
    for place, row in enumerate(rows):
        x, y = place % _COLUMNS * _TILE, place // _COLUMNS * (_TILE + caption)
        image = np.asarray(store.images[row])
        grey = (image // 257 if image.dtype == np.uint16 else image).astype(np.uint8)
        picture = Image.fromarray(np.moveaxis(grey[:3], 0, -1) if len(grey) >= 3 else grey[0])
        sheet.paste(picture.convert("RGB").resize((_TILE - 2, _TILE - 2), Image.Resampling.BILINEAR), (x + 1, y))
        said = str(store.table[labels[0]].iloc[row]) if len(labels) == 1 else ""
        draw.text((x + 2, y + _TILE - 1), f"{row} {said}"[:20], "white")
    return sheet


def _columns(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Further facts that the source gave, as (name, column): not the age, which has too many values."""
    for name in ("modality", "view", "sex", "scanner"):
        if f"extra:{name}" in table:
            yield name, f"extra:{name}"
    if any(table["site"].to_numpy(str)):
        yield "site", "site"


def _counted(values: Iterable[Any]) -> dict[str, int]:
    """The most frequent values with their numbers; what is missing is "unknown"."""
    counts = Counter("unknown" if value == "" else str(value) for value in values)
    listed = dict(counts.most_common(_MOST))
    rest = counts.total() - sum(listed.values())
    return listed | ({"others": rest} if rest else {})


def _listed(values: Mapping[str, int]) -> str:
    return ", ".join(f"{value} {number}" for value, number in values.items())


def _spacing(table: pd.DataFrame) -> dict[str, Any]:
    edges = table[["row_mm", "column_mm"]].to_numpy(float)
    known = edges[np.isfinite(edges).all(axis=1)]
    result: dict[str, Any] = {"known": len(known), "unknown": len(edges) - len(known)}
    if len(known):
        rows = known[:, 0]
        result |= {name: round(float(of(rows)), 4) for name, of in (("least", np.min), ("median", np.median), ("most", np.max))}
        result["not_square"] = int((~np.isclose(rows, known[:, 1], rtol=1e-3)).sum())
    return result


def _duplicates(store: Store) -> dict[str, Any]:
    """Equal pixels anywhere, and what stands on several sides of the split that comes with the data."""
    found = leaks.find_leaks(store.table, store.images, store.table["split"].to_numpy(str))
    return {
        "equal": int(store.table["pixel_hash"].duplicated(keep=False).sum()),
        **found.counts(),
        "leaks": found.sentences(),
        "refused": found.certain,
    }
