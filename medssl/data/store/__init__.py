"""The store: images that were prepared once, their table and their card."""

from medssl.data.store.assemble import EXPECTED_REASONS
from medssl.data.store.compatibility import contract, first_difference
from medssl.data.store.file_names import list_named_images
from medssl.data.store.store import SETTINGS, STORE_FORMAT, Store
from medssl.data.store.writer import create_private, csv_text, write_private

__all__ = [
    "EXPECTED_REASONS",
    "SETTINGS",
    "STORE_FORMAT",
    "Store",
    "contract",
    "create_private",
    "csv_text",
    "first_difference",
    "list_named_images",
    "write_private",
]
