"""The store: prepared images, with their table and their card."""

from medssl.data.store.assemble import write_store
from medssl.data.store.chunks import DamagedChunk, read_chunk, rows_to_try, write_chunk
from medssl.data.store.compatibility import changed_setting, contract, first_difference
from medssl.data.store.file_names import NamedImage, list_named_images
from medssl.data.store.lock import lock_store
from medssl.data.store.pixel_keys import with_pixel_keys
from medssl.data.store.plan import Chunk, Plan, make_plan
from medssl.data.store.reuse import ReusableImages
from medssl.data.store.skipped import EXPECTED_REASONS, PASSING_REASONS, damage_sentence, private_list, records_to_try
from medssl.data.store.store import SETTINGS, STORE_FORMAT, STORED_EDGES, TO_LPS, Store, deciding_settings
from medssl.data.store.stored_volumes import StoredVolumes, Windows, cut_windows
from medssl.data.store.writer import check_space, create_private, csv_text, write_private

__all__ = [
    "EXPECTED_REASONS",
    "PASSING_REASONS",
    "SETTINGS",
    "STORED_EDGES",
    "STORE_FORMAT",
    "TO_LPS",
    "Chunk",
    "DamagedChunk",
    "NamedImage",
    "Plan",
    "ReusableImages",
    "Store",
    "StoredVolumes",
    "Windows",
    "changed_setting",
    "check_space",
    "contract",
    "create_private",
    "csv_text",
    "cut_windows",
    "damage_sentence",
    "deciding_settings",
    "first_difference",
    "list_named_images",
    "lock_store",
    "make_plan",
    "private_list",
    "read_chunk",
    "records_to_try",
    "rows_to_try",
    "with_pixel_keys",
    "write_chunk",
    "write_private",
    "write_store",
]
