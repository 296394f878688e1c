"""What the audit says of whole volumes: their edges, orientations, slice distances, what was mended in them, and their patches."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from medssl.data.store import STORED_EDGES, Store, Windows

_FILLED, _TILTED = "slices were missing and interpolated", "the gantry was tilted, which was sheared back"


def edges_columns(table: pd.DataFrame) -> list[str]:
    """The columns with the edges of images (width, height), or of volumes."""
    return ["width", "height", *(["depth"] if "depth" in table else [])]


def describe_whole_volumes(table: pd.DataFrame) -> dict[str, Any]:
    """{"whole_volumes": {...}} with the number of volumes of each orientation ("unknown" where the source states none), the distances of
    slices in mm, and the number of volumes with slices that were filled in and with a tilt; nothing for images."""
    if "orientation" not in table:
        return {}
    slice_mm = table["slice_mm"].to_numpy(float)
    known = slice_mm[np.isfinite(slice_mm)]
    facts: dict[str, Any] = {
        "count": len(table),
        "orientation": dict(Counter(code or "unknown" for code in table["orientation"].to_numpy(str)).most_common()),
        "filled": int((table["filled"].to_numpy() > 0).sum()),
        "tilted": int((table["tilt_degrees"].to_numpy() > 0).sum()),
    }
    if len(known):
        facts["slice_mm"] = {name: round(float(of(known)), 3) for name, of in (("least", np.min), ("median", np.median), ("most", np.max))}
    return {"whole_volumes": facts}


def describe_patches(store: Store) -> dict[str, Any]:
    """{"patches": {...}} with the edges of a patch, the number of windows of all volumes and the most of one volume, and the number of
    volumes that are no larger than a patch along an axis; nothing where volumes are not read in patches."""
    if not isinstance(store.inputs, Windows):
        return {}
    edges, sizes = list(store.inputs.shape[2:]), store.inputs.sizes
    small = (store.table[STORED_EDGES].to_numpy() == edges).any(axis=1)
    return {"patches": {"size": edges, "windows": len(store.inputs), "most": int(sizes.max()), "small": int(small.sum())}}


def patch_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The description of patches as (heading, sentence)."""
    if facts:
        yield "patches", f"{facts['windows']} windows of {' x '.join(map(str, facts['size']))} voxels, up to {facts['most']} of a volume"
        if small := facts["small"]:
            yield "patches", f"{small} volumes are no larger than a patch along an axis; where they are smaller, they got zeros"


def whole_volume_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The description as (heading, sentence); nothing of images."""
    if not facts:
        return
    if distance := facts.get("slice_mm"):
        yield "slices", f"{distance['least']} to {distance['most']} mm apart, median {distance['median']}"
    orientation = ", ".join(f"{code} {number}" for code, number in facts["orientation"].items())
    unknown = facts["orientation"].get("unknown", 0)
    say = f"; {unknown} volumes do not say how their axes lie, which are taken as slices, rows and columns of axial pictures"
    yield "axes", orientation + (say if unknown else "")
    for number, sentence in ((facts["filled"], _FILLED), (facts["tilted"], _TILTED)):
        if number:
            yield "mended", f"in {number} volumes {sentence}"
