"""The keyed hashes of pixels of a store that an earlier version has made, which wrote none."""

from dataclasses import replace
from pathlib import Path

from medssl.data.cache import site_key
from medssl.data.pseudonyms import pixel_key, site_name
from medssl.data.store.store import Store


def with_pixel_keys(store: Store, cache: Path) -> Store:
    """The store with the column `pixel_key` in its table. A store without the column that was made with another site's key stays as it is:
    only that key could tell. Raises UserError where the site's key cannot be used."""
    if "pixel_key" in store.table or site_name(key := site_key(cache)) != store.card["site"]:
        return store
    return replace(store, table=store.table.assign(pixel_key=[pixel_key(key, hashed) for hashed in store.table["pixel_hash"]]))
