"""The audit of prepared data, to be read before training: counts, what was left out, leaks, and a contact sheet of images."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from medssl.data.label_table import label_lines
from medssl.data.looks import find_looks, look_lines
from medssl.data.negatives import SHOWN, Negatives, describe_negatives, find_negatives, negative_lines
from medssl.data.patients import PatientOrigin
from medssl.data.split import leaks
from medssl.data.store import EXPECTED_REASONS, Store, create_private, damage_sentence, write_private
from medssl.data.volume_audit import describe_patches, describe_whole_volumes, edges_columns, patch_lines, whole_volume_lines
from medssl.data.volume_slices import whole_volumes
from medssl.data.volumes import Volumes
from medssl.planes import Planes
from medssl.types import SPLITS, Source

_MAX_LISTED = 20  # values that are listed by name; all rarer ones are counted together
_TILE_PIXELS, _VOLUME_PIXELS, _COLUMNS, _TILES = 128, 192, 8, 64
_REMEDY = "this split needs data.leaks=drop, as the presets for small published sets have it, or allow; else it is refused"


def write_audit(store: Store, source: Source) -> Negatives:
    """Writes audit.json and contact_sheet.png into the store's folder. Returns the images that look like negatives of the others."""
    negatives = find_negatives(store)
    write_private(store.path / "audit.json", json.dumps(audit(store, source, negatives), indent=1))
    with create_private(store.path / "contact_sheet.png") as file:
        contact_sheet(store, negatives.rows[:SHOWN].tolist()).save(file, "PNG")
    return negatives


def audit(store: Store, source: Source, negatives: Negatives | None = None) -> dict[str, Any]:
    """The counts of a store, for audit.json. The audit holds no identity: of keyed hashes only the number is in it."""
    table, counts = store.table, store.card["counts"]
    labels = [str(name).removeprefix("label:") for name in table if str(name).startswith("label:")]
    splits, images_each = table["split"].to_numpy(str), table["patient"].value_counts().to_numpy()
    return {
        "source": source.kind,
        "notes": list(source.notes),
        "images": {
            "found": counts["records"] + len(source.skipped),
            "used": counts["used"],
            "skipped": counts["skipped"],
            **({"suspect": store.card["suspect"]} if "suspect" in store.card else {}),
        },
        "patients": {
            "count": len(images_each),
            "origin": PatientOrigin.of(source.records).to_dict(),
            "images_each": {"least": int(images_each.min()), "median": float(np.median(images_each)), "most": int(images_each.max())},
            **{kind: table[column].replace("", None).nunique() for kind, column in (("studies", "study"), ("series", "series"))},
        },
        **_describe_volumes(store, labels),
        **describe_whole_volumes(table),
        **describe_patches(store),
        **{name: _count_values(table[column]) for name, column in _extra_columns(table)},
        "size": _count_values(" x ".join(map(str, edges)) for edges in table[edges_columns(table)].to_numpy()),
        "spacing_mm": _describe_spacing(table),
        "bits": _count_values(table["bits"]),
        "labels": {name: _count_values(table[f"label:{name}"]) for name in labels},
        "splits": {
            split: {"images": int((splits == split).sum()), "patients": table.loc[splits == split, "patient"].nunique()}
            for split in SPLITS
            if (splits == split).any()
        },
        "looks": find_looks(store),
        **(describe_negatives(negatives, table, "dicom" in store.card["versions"]["readers"]) if negatives else {}),
        "duplicates": _describe_duplicates(store),
    }


def audit_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The audit for a person, as (heading, sentence). `found`: what `audit` has returned."""
    images, patients = found["images"], found["patients"]
    counted = "volumes" if "whole_volumes" in found else "images"
    yield counted, f"{images['used']} used of {images['found']} found ({found['source']})"
    for name, number in images["skipped"].items():
        yield "", f"{number} left out: {name}" + ("" if name in EXPECTED_REASONS else " (a fault)")
    if images.get("suspect"):
        yield "damage", damage_sentence(images["suspect"], "suspect" in images["skipped"])
    images_each, origin = patients["images_each"], PatientOrigin.by({"patients": patients.get("origin", {})})
    more = "".join(f", {patients[kind]} {kind}" for kind in ("studies", "series") if patients[kind])
    if origin.all_unknown:
        yield "patients", f"unknown; {patients['count']} {origin.units} count as one each{more}"
    else:
        guessed = " (guessed from names)" if origin.guessed else ""
        yield "patients", f"{patients['count']}{guessed}{more}; {counted} each: {images_each['median']} (up to {images_each['most']})"
    if volumes := found.get("volumes"):
        each = volumes["slices_each"]
        yield "volumes", f"{volumes['count']}; slices each: {each['median']:g} (from {each['least']} to {each['most']})"
    of_volumes = volumes["labels"] if volumes else {}
    for name in ("modality", "view", "sex", "scanner", "site", "size", "bits"):
        if name in found:
            yield name, _format_counts(found[name])
    spacing = found["spacing_mm"]
    if spacing["known"]:
        unknown = f"{spacing['unknown']} {counted} do not say"
        yield "spacing", f"{spacing['least']} to {spacing['most']} mm, median {spacing['median']}; {unknown}"
    yield from (*whole_volume_lines(found.get("whole_volumes", {})), *patch_lines(found.get("patches", {})))
    of_images = {name: counts for name, counts in found["labels"].items() if name not in of_volumes}
    for line in (*label_lines(of_images, counted), *label_lines(of_volumes, "volumes")):
        yield "label", line
    for name, split in found["splits"].items():
        yield "split", f"{name}: {origin.count(split['images'], split['patients'], counted)}"
    yield from (("look", sentence) for sentence in _look_sentences(found))
    duplicates = found["duplicates"]
    equal = duplicates["equal"]
    yield "copies", f"{equal} {counted} have the same pixels as another one" if equal else f"no two {counted} have the same pixels"
    yield from (("leak", sentence) for sentence in duplicates["leaks"])
    if duplicates["refused"]:
        yield "", _REMEDY
    yield from (("note", note) for note in found["notes"])


def looks_of(store: Store) -> list[str]:
    """What the audit of a store says of how its images look, as sentences; none where an earlier version wrote the audit."""
    file = store.path / "audit.json"
    found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return _look_sentences(found)


def _look_sentences(found: Mapping[str, Any]) -> list[str]:
    return [*(look_lines(found["looks"]) if "looks" in found else ()), *negative_lines(found)]  # earlier versions wrote no looks


def contact_sheet(store: Store, negatives: Sequence[int] = ()) -> Image.Image:
    """A picture of 64 evenly spaced images of the store, each above its row and, where there is one label column, its label. Of three or
    more channels the first three are shown as red, green and blue; of a volume three planes through its middle. The rows of `negatives`
    are shown behind them, in a line of their own."""
    spaced = np.unique(np.linspace(0, len(store.images) - 1, min(_TILES, len(store.images))).astype(int)).tolist()
    places = [*enumerate(spaced), *enumerate(negatives, -(-len(spaced) // _COLUMNS) * _COLUMNS)]
    labels = [str(name) for name in store.table if str(name).startswith("label:")]
    planes, caption, edge = Planes.of(store.card, store.table), 14, _VOLUME_PIXELS if whole_volumes(store) else _TILE_PIXELS
    height = (places[-1][0] // _COLUMNS + 1) * (edge + caption)
    sheet = Image.new("RGB", (min(max(len(spaced), len(negatives)), _COLUMNS) * edge, height), "black")
    draw = ImageDraw.Draw(sheet)
    for position, row in places:
        x, y = position % _COLUMNS * edge, position // _COLUMNS * (edge + caption)
        image = planes.picture(np.asarray(store.images[row]), edge=edge - 2)
        grey = (image // 257 if image.dtype == np.uint16 else image).astype(np.uint8)
        picture = Image.fromarray(np.moveaxis(grey[:3], 0, -1) if len(grey) >= 3 else grey[0])
        sheet.paste(picture.convert("RGB").resize((edge - 2, edge - 2), Image.Resampling.BILINEAR), (x + 1, y))
        label = "negative?" if position >= len(spaced) else str(store.table[labels[0]].iloc[row]) if len(labels) == 1 else ""
        draw.text((x + 2, y + edge - 1), f"{row} {label}"[:20], "white")
    return sheet


def _extra_columns(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The table's columns of modality, view, sex, scanner and site, where they exist, as (name, column)."""
    for name in ("modality", "view", "sex", "scanner"):
        if f"extra:{name}" in table:
            yield name, f"extra:{name}"
    if any(table["site"].to_numpy(str)):
        yield "site", "site"


def _count_values(values: Iterable[Any]) -> dict[str, int]:
    """{value: its number} for the most frequent values; "" counts as "unknown", and all rarer values as "others"."""
    counts = Counter("unknown" if value == "" else str(value) for value in values)
    listed = dict(counts.most_common(_MAX_LISTED))
    rest = counts.total() - sum(listed.values())
    return listed | ({"others": rest} if rest else {})


def _format_counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{value} {number}" for value, number in values.items())


def _describe_volumes(store: Store, labels: Iterable[str]) -> dict[str, Any]:
    """The number of volumes and of their slices, and of the labels that all slices of each volume share the number of volumes with each
    value. Nothing where no volume has two slices."""
    volumes, table = Volumes.of(store), store.table
    if len(volumes) == len(table):
        return {}
    shared = [name for name in labels if not volumes.differing(table[[f"label:{name}"]].to_numpy(str))]
    sizes = volumes.sizes
    each = {"least": int(sizes.min()), "median": float(np.median(sizes)), "most": int(sizes.max())}
    counts = {name: _count_values(volumes.table[f"label:{name}"]) for name in shared}
    return {"volumes": {"count": len(sizes), "slices_each": each, "labels": counts}}


def _describe_spacing(table: pd.DataFrame) -> dict[str, Any]:
    """The number of images with and without a known spacing; the least, median and largest distance of rows in mm; the number of images
    whose pixels are not square."""
    spacings = table[["row_mm", "column_mm"]].to_numpy(float)
    known = spacings[np.isfinite(spacings).all(axis=1)]
    result: dict[str, Any] = {"known": len(known), "unknown": len(spacings) - len(known)}
    if len(known):
        rows = known[:, 0]
        result |= {name: round(float(of(rows)), 4) for name, of in (("least", np.min), ("median", np.median), ("most", np.max))}
        result["not_square"] = int((~np.isclose(rows, known[:, 1], rtol=1e-3)).sum())
    return result


def _describe_duplicates(store: Store) -> dict[str, Any]:
    """The number of images with equal pixels, and the leaks of the split that comes with the data."""
    found = leaks.find_leaks(store.table, store.images, store.table["split"].to_numpy(str))
    return {
        "equal": int(store.table["pixel_hash"].duplicated(keep=False).sum()),
        **found.counts(),
        "leaks": found.sentences("volumes" if whole_volumes(store) else "images"),
        "refused": found.certain,
    }
