"""Reusing images of earlier stores of the same source: where one of many files has changed, only that file is read again."""

import csv
import json
from pathlib import Path

import numpy as np

from medssl.data.decode import PreparedImage
from medssl.data.store.chunks import volume_facts
from medssl.data.store.store import PATCH_FORMAT, STORE_FORMAT, SUSPECT, VOLUME_FORMAT, Store
from medssl.errors import UserError

_FACTS = ["bits", "height", "width", "pixel_hash", "perceptual_hash"]


class ReusableImages:
    """The images of all stores in `folder` whose cards have that `place` and `site`, by the column `made` of their tables, which is equal
    for images of the same file, reader and settings."""

    def __init__(self, folder: Path, place: str, site: str) -> None:
        self._stores: list[Store] = []
        self._rows: dict[str, tuple[int, int]] = {}
        self._signs: dict[str, str] = {}
        for card in sorted(folder.glob("*/card.json")):
            if (store := _open_store(card, place, site)) is not None:
                self._rows |= {made: (len(self._stores), row) for row, made in enumerate(store.table["made"])}
                self._stores.append(store)
                self._signs |= _signs(card.with_name(SUSPECT))

    def __contains__(self, made: str) -> bool:
        if made not in self._rows:
            return False
        number, row = self._rows[made]
        try:
            self._stores[number].images.check(row)
        except UserError:  # its pixels are damaged
            del self._rows[made]
            return False
        return True

    def load(self, made: str) -> PreparedImage:
        """The image with that value in the column `made`."""
        number, row = self._rows[made]
        store = self._stores[number]
        facts = dict(zip(_FACTS, store.table[_FACTS].iloc[row], strict=True))
        image = np.array(store.images[row])
        if image.dtype == np.uint16 and facts["bits"] <= 8:
            image = (image // 257).astype(np.uint8)
        whole = volume_facts(dict(store.table.iloc[row])) if image.ndim == 4 else None
        depth = int(store.table["depth"].iloc[row]) if whole else 0
        spacing = tuple(float(store.table[name].iloc[row]) for name in (*(["slice_mm"] if whole else []), "row_mm", "column_mm"))
        spacing_mm = None if np.isnan(spacing[0]) else spacing
        size = (int(facts["bits"]), int(facts["height"]), int(facts["width"]))
        hashes = facts["pixel_hash"], facts["perceptual_hash"]
        return PreparedImage(image, *size, spacing_mm, *hashes, self._signs.get(made, ""), depth, whole)


def _signs(file: Path) -> dict[str, str]:
    """The signs of damage of a store's images, by the column `made`."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as table:
        return {row["made"]: row["sign"] for row in csv.DictReader(table)}


def _open_store(card: Path, place: str, site: str) -> Store | None:
    try:
        found = json.loads(card.read_text("utf-8"))
        if found["format"] in (STORE_FORMAT, VOLUME_FORMAT, PATCH_FORMAT) and (found["place"], found["site"]) == (place, site):
            return Store.open(card.parent)
    except (OSError, ValueError, KeyError, UserError):  # a damaged store is not used
        pass
    return None
