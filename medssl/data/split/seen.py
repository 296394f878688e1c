"""Which rows of a store show what an encoder has seen in its pretraining, by the keyed hashes on the encoder's card.

`card["pretraining"]` has an entry for `patients` and one for `pixels`: {"site": the name of the site's key, "hashes": the list}. Of an
exported encoder the list is a Bloom filter (`bloom.build`), or there is only the number: {"count": n}. An encoder that continues from
another one has both where they cannot be one list: {"count": n, "parts": [its own, those of the other]}. Cards of earlier versions have
lists and filters without a site; there the hashes of pixels were made without a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medssl.data.split import bloom

HASH_LETTERS = 16  # of a patient's key or a keyed hash of pixels that a card lists


@dataclass(frozen=True)
class Seen:
    """For each row of a store's table whether pretraining has seen its patient (`patient`), and whether it has seen its pixels, be it under
    another patient (`pixels`)."""

    patient: Bool[np.ndarray, " rows"]
    pixels: Bool[np.ndarray, " rows"]

    @classmethod
    def by(cls, card: Mapping[str, Any], table: pd.DataFrame) -> Seen:
        """What the encoder of that card has seen of the rows of `table`. Hashes of two sites never agree."""
        patients, pixels = _hashes(table, "patient"), _hashes(table, "pixel_hash")
        keyed = _hashes(table, "pixel_key") if "pixel_key" in table else np.full(len(table), "")
        known = card["pretraining"]
        return cls(_contains(known["patients"], patients, patients), _contains(known["pixels"], keyed, pixels))

    @property
    def rows(self) -> Bool[np.ndarray, " rows"]:
        """The rows that must not be tested."""
        return self.patient | self.pixels


def list_seen(table: pd.DataFrame, site: str) -> dict[str, Any]:
    """The entries of a card for a pretraining on the rows of `table`, whose keyed hashes were made with the key that is named `site`.
    Pixels are only counted where the table has no keyed hashes of them (a store of an earlier version and of another site)."""
    pixels = {"site": site, "hashes": _listed(table, "pixel_key")} if "pixel_key" in table else {"count": table["pixel_hash"].nunique()}
    return {"patients": {"site": site, "hashes": _listed(table, "patient")}, "pixels": pixels}


def seen_counts(card: Mapping[str, Any]) -> dict[str, int]:
    """How many `patients` and `pixels` (images with different pixels) pretraining has seen."""
    return {name: count_seen(entry) for name, entry in card["pretraining"].items()}


def count_seen(entry: Any) -> int:
    """The number of one entry."""
    if isinstance(entry, Mapping):
        return len(entry["hashes"]) if "hashes" in entry else entry["count"]
    return len(entry)


def unsearchable(card: Mapping[str, Any], table: pd.DataFrame, site: str) -> str:
    """Why the card cannot say which patients and images of a store's table pretraining has seen, as a sentence without its end; "" where
    it can. `site`: the name of the key with which the store was made, "" where it is unknown."""
    parts = [part for entry in card["pretraining"].values() for part in _parts(entry)]
    if any(isinstance(part, Mapping) and not {"hashes", "filter"} & set(part) for part in parts):
        return "the encoder was exported without the hashes of its training images (medssl export --with-hashes)"
    sites = {part["site"] for part in parts if isinstance(part, Mapping) and "site" in part}
    if (site and sites - {site}) or (sites and "pixel_key" not in table):
        return "the hashes on the encoder's card were made with the key of another site (site.key in the cache, or MEDSSL_KEY_FILE)"
    return ""


def join_seen(own: Any, earlier: Any) -> Any:
    """One entry for what two pretrainings have seen, one after the other."""
    if not isinstance(own, Mapping) and not isinstance(earlier, Mapping):
        return sorted({*own, *earlier})
    if not count_seen(earlier):
        return own
    if all(isinstance(entry, Mapping) and "hashes" in entry for entry in (own, earlier)) and own["site"] == earlier["site"]:
        return {"site": own["site"], "hashes": sorted({*own["hashes"], *earlier["hashes"]})}
    return {"count": count_seen(own) + count_seen(earlier), "parts": [own, earlier]}


def without_lists(entry: Any) -> dict[str, Any]:
    """The entry with Bloom filters instead of lists."""
    if not isinstance(entry, Mapping):
        return bloom.build(entry)
    if "hashes" in entry:
        return {"site": entry["site"], **bloom.build(entry["hashes"])}
    return {**entry, "parts": [without_lists(part) for part in entry["parts"]]} if "parts" in entry else dict(entry)


def _listed(table: pd.DataFrame, column: str) -> list[str]:
    return np.unique(_hashes(table, column)).tolist()


def _hashes(table: pd.DataFrame, column: str) -> np.ndarray:
    return table[column].str[:HASH_LETTERS].to_numpy(str)


def _parts(entry: Any) -> list[Any]:
    return [each for part in entry["parts"] for each in _parts(part)] if isinstance(entry, Mapping) and "parts" in entry else [entry]


def _contains(entry: Any, keyed: np.ndarray, unkeyed: np.ndarray) -> np.ndarray:
    """For each row whether its hash is in the entry. `unkeyed`: what entries of earlier versions hold."""
    if not isinstance(entry, Mapping):
        return np.isin(unkeyed, entry)
    if "parts" in entry:
        return np.any([_contains(part, keyed, unkeyed) for part in entry["parts"]], axis=0)
    hashes = keyed if "site" in entry else unkeyed
    if "hashes" in entry:
        return np.isin(hashes, entry["hashes"])
    return bloom.contains(entry, hashes) if "filter" in entry else np.zeros(len(hashes), bool)
