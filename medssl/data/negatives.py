"""Images of a store that look like negatives of the others: bones are dark in them where bones are bright in the others.

Radiographs that were exported from MONOCHROME1 without inverting them are stored so, often those of a whole hospital. An encoder would
learn the hospital. Each image is compared, as a small picture of a few cells, with the layout that the images of the store share. Where
they share none (natural photographs, cells anywhere in a picture) nothing is said. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from medssl.data.image_hash import shrink, shrink_volume
from medssl.data.looks import sample_rows
from medssl.data.store import Store, StoredVolumes

SHOWN = 8  # rows that are named in the sentence and shown in the contact sheet
_EDGE, _CELLS, _VOLUME_CELLS = 64, (16, 16), (6, 6, 6)
_BLOCK = 1024  # images that are judged at once
_FLAT, _MARGIN, _COLOURED = 2.5, 12, 5  # of 256 grey levels
_LEAST_IMAGES = 8
_SHARED = 0.45  # three quarters of the images agree with the layout, or with its negative, at least so much
_OPPOSITE = -0.35  # agreement of a negative with the layout
_NEARLY = 0.95  # of a likeness: what counts as as much
_ALIKE, _USUAL = 0.9, 0.1  # the tenth of the images that are most like it; what all but a tenth of the images reach
_TWO_KINDS = 1 / 3
_NEARLY_ALL, _VALUES = 0.9, 3
Units = Float[np.ndarray, "images cells"]  # mean 0 and length 1; 0 for an image of one grey level


@dataclass(frozen=True, slots=True)
class Negatives:
    """`rows`: of the images that look like negatives of the others, ascending. `judged`: how many images were looked at: all images of a
    store, of whole volumes a sample."""

    rows: Int[np.ndarray, " rows"]
    judged: int


def find_negatives(store: Store) -> Negatives:
    """The negatives among the images of a store; none where the images share no layout, or are coloured.

    The layout is that of at most 512 evenly spaced images; all images are then read once, of which only two numbers are kept."""
    sample, none = sample_rows(store), np.empty(0, np.int64)
    images = store.images if isinstance(store.images, StoredVolumes) else np.asarray(store.images)  # just written: no hash is checked
    rows = np.arange(len(images)) if images.ndim == 4 else sample
    if np.mean([_is_coloured(images[row]) for row in sample]) > 1 - _NEARLY_ALL:
        return Negatives(none, 0)
    layout = _Layout.of(_units(images, sample))
    if layout is None:
        return Negatives(none, len(rows))
    judged = [layout.judge(_units(images, rows[start : start + _BLOCK])) for start in range(0, len(rows), _BLOCK)]
    opposite, certain = map(np.concatenate, zip(*judged, strict=True))
    return Negatives(rows[opposite] if 2 * certain.sum() >= opposite.sum() else none, len(rows))


def describe_negatives(negatives: Negatives, table: pd.DataFrame, dicom: bool = False) -> dict[str, Any]:
    """{"negatives": {...}} for the audit: their number, the first rows, the number of images that were looked at, and the column whose
    values tell them from the others; nothing where there are none. `dicom`: whether files say themselves how they are to be shown."""
    rows = negatives.rows
    if not len(rows):
        return {}
    facts = {"images": len(rows), "of": negatives.judged, "rows": rows[:SHOWN].tolist(), "dicom": dicom}
    return {"negatives": facts | _explained(table, rows)}


def negative_lines(audit: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know of negatives, as one sentence or none. Earlier versions counted them in a sample, under `looks`."""
    looks = audit.get("looks", {})
    found = audit.get("negatives") or ({"images": looks["inverted"], "of": looks["checked"]} if looks.get("inverted") else None)
    if not found:
        return
    what, column, rows = "volumes" if looks.get("volumes") else "images", "", ""
    if "column" in found:
        column = f". Nearly all of them, and few others, have {found['column']} = {' or '.join(found['values'])}"
    if "rows" in found:
        rows = f" (rows {', '.join(map(str, found['rows']))}{', ...' if found['images'] > SHOWN else ''}; at the end of contact_sheet.png)"
    unclear = found["images"] > _TWO_KINDS * found["of"]
    yield (
        f"{found['images']} of {found['of']} {what} look like negatives of the others: bright is dark in them{rows}{column}. "
        + ("Which of the two kinds is right cannot be told from the pixels. " if unclear else "")
        + "They are used as they are, and an encoder learns the difference. Invert these files"
        + (" (in DICOM files correct PhotometricInterpretation)" if found.get("dicom") else "")
        + ", or leave them out: name a table of the others with --data"
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the images of a set share. `direction`: the first direction of their small pictures, which most agree with; `mirrored`: the
    same, mirrored along each choice of axes; `others`: the small pictures that agree; `limit`: how alike images are."""

    direction: Float[np.ndarray, " cells"]
    mirrored: Float[np.ndarray, "mirrors cells"]
    others: Units
    limit: float

    @classmethod
    def of(cls, units: Units) -> _Layout | None:
        """The layout of a sample of images; None where three quarters of them do not share one, up to the sign."""
        units = units[units.any(axis=1)]
        if len(units) < _LEAST_IMAGES:
            return None
        direction = np.linalg.eigh(units.T @ units)[1][:, -1]
        direction *= np.sign(np.median(units @ direction)) or 1
        agreement = units @ direction
        if np.quantile(np.abs(agreement), 0.25) < _SHARED:
            return None
        cells = _CELLS if len(direction) == np.prod(_CELLS) else _VOLUME_CELLS
        axes = [chosen for number in range(1, len(cells) + 1) for chosen in combinations(range(len(cells)), number)]
        mirrored = np.stack([np.flip(direction.reshape(cells), chosen).ravel() for chosen in axes])
        others = units[agreement > -_OPPOSITE]
        alike = others @ others.T
        np.fill_diagonal(alike, -1)
        return cls(direction, mirrored, others, float(np.quantile(np.quantile(alike, _ALIKE, axis=1), _USUAL)))

    def judge(self, units: Units) -> tuple[Bool[np.ndarray, " images"], Bool[np.ndarray, " images"]]:
        """Which images are opposite to the layout; and which of them are certain: their negative is as like the others as these are like
        each other (an image of something else is not), and mirroring does not explain them (left and right breasts)."""
        agreement = units @ self.direction
        opposite = agreement < _OPPOSITE
        certain, found = opposite.copy(), units[opposite]
        alike = np.quantile(-found @ self.others.T, _ALIKE, axis=1) >= _NEARLY * self.limit
        certain[opposite] = alike & ((found @ self.mirrored.T).max(axis=1) < -_NEARLY * agreement[opposite])
        return opposite, certain


def _units(images: np.ndarray | StoredVolumes, rows: Int[np.ndarray, " rows"]) -> Units:
    """The small pictures of these rows."""
    small = np.stack([_small(images[row][0]).ravel() for row in rows]).astype(np.float64)
    small -= small.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(small, axis=1, keepdims=True)
    return np.where(lengths > _FLAT * small.shape[1] ** 0.5, small / np.maximum(lengths, 1), 0)


def _small(picture: np.ndarray) -> np.ndarray:
    """The mean of each cell of a picture, or of a volume, without its margins. These are of one grey level, and of any: a picture and its
    negative are cut alike, although the preparation pads both with black. Of a large picture only every second or third row counts."""
    levels = picture[tuple(slice(None, None, max(1, edge // _EDGE)) for edge in picture.shape)]
    levels = levels if levels.dtype == np.uint8 else (levels >> 8).astype(np.uint8)
    for axis in (*reversed(range(levels.ndim)),) * 2:  # twice: rows may be of one grey level once the columns are cut
        others = tuple(other for other in range(levels.ndim) if other != axis)
        used = np.flatnonzero(np.ptp(levels, axis=others) > _MARGIN)
        if len(used):
            levels = levels[(slice(None),) * axis + (slice(used[0], used[-1] + 1),)]
    return shrink(levels[None], *_CELLS) if levels.ndim == 2 else shrink_volume(levels[None], _VOLUME_CELLS)


def _is_coloured(image: np.ndarray) -> bool:
    """Whether the channels of an image differ, as those of a colour picture or of several windows do."""
    return len(image) > 1 and bool(np.ptp(image, axis=0).max() > _COLOURED / 255 * np.iinfo(image.dtype).max)


def _explained(table: pd.DataFrame, rows: Int[np.ndarray, " rows"]) -> dict[str, Any]:
    """The first column, and its values, that nearly all of the rows have and few others; nothing where no column tells them."""
    among = np.zeros(len(table), bool)
    among[rows] = True
    columns = ["site", *(f"extra:{name}" for name in ("modality", "view", "sex", "scanner"))]
    columns += [name for name in map(str, table) if name.startswith("label:")]
    for column in (name for name in (*columns, "split") if name in table):
        values, numbers = np.unique(table[column].to_numpy(str), return_inverse=True)
        shares = np.bincount(numbers, among) / np.bincount(numbers)
        telling = np.flatnonzero((shares >= _NEARLY_ALL) & (values != ""))
        if 0 < len(telling) <= _VALUES and np.isin(numbers[rows], telling).mean() >= _NEARLY_ALL:
            return {"column": column.rpartition(":")[2], "values": values[telling].tolist()}
    return {}
