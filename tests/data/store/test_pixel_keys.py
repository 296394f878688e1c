"""Keyed hashes of pixels in a store: those of a new store, and those of a store that an earlier version has made."""

from medssl.config import Data
from medssl.data.cache import site_key
from medssl.data.prepare import prepare
from medssl.data.pseudonyms import pseudonym
from medssl.data.store.pixel_keys import with_pixel_keys

DATA = Data(size=16)


def test_a_store_has_keyed_hashes_of_pixels_and_one_of_an_earlier_version_gets_them_where_the_key_is_here(make_source, tmp_path):
    store = prepare(make_source(), DATA, tmp_path)
    expected = [pseudonym(site_key(tmp_path), "pixels", text)[:16] for text in store.table["pixel_hash"]]
    assert store.table["pixel_key"].tolist() == expected
    del store.table["pixel_key"]
    assert with_pixel_keys(store, tmp_path).table["pixel_key"].tolist() == expected
    assert "pixel_key" not in with_pixel_keys(store, tmp_path / "other").table, "only the key of the store's site can tell"
