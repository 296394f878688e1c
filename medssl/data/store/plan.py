"""The plan of a store, made before any image is read: its fingerprint, its folder, and its records in chunks."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.config import Data
from medssl.data.cache import site_key
from medssl.data.pseudonyms import pseudonym, site_name
from medssl.data.store.chunks import chunk_slices
from medssl.data.store.fingerprint import SourceHash, digest, fingerprint
from medssl.data.store.store import Store, store_format
from medssl.errors import UserError
from medssl.types import Record, Source


@dataclass(frozen=True, slots=True)
class Chunk:
    """About a hundred records, in the order of the source. `made`: for each record a keyed hash of everything that decides its image, which
    becomes the column `made` of the table. `file`: holds the prepared images until the store is complete."""

    records: Sequence[Record]
    made: Sequence[str]
    file: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """`key`: the site's secret key. `site`: a hash by which the keys of two sites differ, and from which the key cannot be found.
    `place`: a keyed hash of the source's folder. `path`: the store's folder. `chunk_folder`: beside `path`, until the store is complete."""

    source: Source
    data: Data
    cache: Path
    key: bytes
    site: str
    place: str
    fingerprint: str
    path: Path
    chunk_folder: Path
    chunks: Sequence[Chunk]

    def existing_store(self) -> Store | None:
        """The store at `path` if it is complete, of the same data and made with this site's key; else None."""
        with contextlib.suppress(UserError):
            store = Store.open(self.path)
            left_out = "suspect" in store.card["counts"]["skipped"]
            same = (store.card["site"], store.card["fingerprint"]) == (self.site, self.fingerprint)
            if same and left_out == self.leaves_out(store.card.get("suspect", 0)):  # earlier versions looked for no signs of damage
                return store
        return None

    def leaves_out(self, suspect: int) -> bool:
        """Whether so many images with signs of damage are more than `data.max_suspect_fraction` allows."""
        return suspect > self.data.max_suspect_fraction * len(self.source.records)


def make_plan(source: Source, data: Data, cache: Path, out: Path | None) -> Plan:
    """The plan of the store in <cache>/stores/<fingerprint>, or in `out`.

    Raises UserError where `out` holds anything but a store of the same source, and where the site's key cannot be used.
    """
    key, source_hash = site_key(cache), SourceHash(source, data)
    hashes = [source_hash.of(record) for record in source.records]
    name = fingerprint(source, hashes, store_format(data))
    path = (out.expanduser().absolute() if out else cache / "stores" / name).resolve()
    place, folder = pseudonym(key, "place", str(source.root)), path.with_name(path.name + ".chunks")
    if out:
        _check_out(path, place)
    chunks = tuple(_chunks(source.records, hashes, data, key, folder))
    return Plan(source, data, cache, key, site_name(key), place, name, path, folder, chunks)


def _chunks(records: Sequence[Record], hashes: Sequence[str], data: Data, key: bytes, folder: Path) -> Iterator[Chunk]:
    """The chunks, equal on every machine. The site's key is not part of a chunk file's name: machines with other keys may share the
    work."""
    for number, rows in enumerate(chunk_slices(len(records), data)):
        chunk_hashes = hashes[rows]
        made = [pseudonym(key, "made", source_hash) for source_hash in chunk_hashes]
        yield Chunk(records[rows], made, folder / f"{number:06}-{digest(chunk_hashes)}.chunk")


def _check_out(path: Path, place: str) -> None:
    """Raises UserError where `path` exists and is neither an empty folder nor a store of the same source. Such a store may be replaced,
    also where it is damaged."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        found = json.loads((path / "card.json").read_text("utf-8"))["place"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} exists and is not a complete store. Delete it, or name another folder with --out.") from None
    if found != place:
        raise UserError(f"{path} is a store of other data. Delete it, or name another folder with --out.")
