"""The store: prepared images, with their table and their card."""

from medssl.data.store.assemble import write_store
from medssl.data.store.chunks import write_chunk
from medssl.data.store.compatibility import changed_setting, contract, first_difference
from medssl.data.store.file_names import list_named_images
from medssl.data.store.plan import Chunk, Plan, make_plan
from medssl.data.store.reuse import ReusableImages
from medssl.data.store.skipped import EXPECTED_REASONS, private_list
from medssl.data.store.store import SETTINGS, STORE_FORMAT, Store
from medssl.data.store.writer import create_private, csv_text, write_private

__all__ = [
    "EXPECTED_REASONS",
    "SETTINGS",
    "STORE_FORMAT",
    "Chunk",
    "Plan",
    "ReusableImages",
    "Store",
    "changed_setting",
    "contract",
    "create_private",
    "csv_text",
    "first_difference",
    "list_named_images",
    "make_plan",
    "private_list",
    "write_chunk",
    "write_private",
    "write_store",
]
