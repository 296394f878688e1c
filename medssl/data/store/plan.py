"""What a store will be made of, found before any image is read: its fingerprint, its folder, and its records in chunks."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.config import Data
from medssl.data.cache import site_key
from medssl.data.pseudonyms import pseudonym
from medssl.data.store.chunks import chunk_slices
from medssl.data.store.fingerprint import SourceHash, digest, fingerprint
from medssl.data.store.store import STORE_FORMAT, Store
from medssl.errors import UserError
from medssl.types import Record, Source


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some hundred records, in the order of the source. `made`: for each record the column `made` of the table, a keyed hash of all that
    decides its image. `file`: where the prepared images are kept until the store is whole."""

    records: Sequence[Record]
    made: Sequence[str]
    file: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """`key`: the site's secret key. `site` tells one site's key from another's and nothing of the key; `place` is a keyed hash of the
    source's folder. `path`: the store's folder; `chunk_folder` lies beside it until the store is whole."""

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
        """The store where it is there already: whole, of the same data, and made with this site's key."""
        with contextlib.suppress(UserError):
            store = Store.open(self.path)
            if (store.card["site"], store.card["fingerprint"]) == (self.site, self.fingerprint):
                return store
        return None


def make_plan(source: Source, data: Data, cache: Path, out: Path | None) -> Plan:
    """The plan of the store in <cache>/stores/<fingerprint>, or in `out`.

    Raises UserError where `out` holds anything but a store of the same source, and where the site's key cannot be used.
    """
    key, source_hash = site_key(cache), SourceHash(source, data)
    hashes = [source_hash.of(record) for record in source.records]
    name = fingerprint(source, hashes, STORE_FORMAT)
    path = (out.expanduser().absolute() if out else cache / "stores" / name).resolve()
    place, folder = pseudonym(key, "place", str(source.root)), path.with_name(path.name + ".chunks")
    if out:
        _check_out(path, place)
    chunks = tuple(_chunks(source.records, hashes, data, key, folder))
    return Plan(source, data, cache, key, pseudonym(key, "site", "")[:16], place, name, path, folder, chunks)


def _chunks(records: Sequence[Record], hashes: Sequence[str], data: Data, key: bytes, folder: Path) -> Iterator[Chunk]:
    """The chunks, the same on every machine. A file's name says what went into it, without the key: sites may share the work."""
    for number, rows in enumerate(chunk_slices(len(records), data)):
        own = hashes[rows]
        yield Chunk(records[rows], [pseudonym(key, "made", one) for one in own], folder / f"{number:06}-{digest(own)}.chunk")


def _check_out(path: Path, place: str) -> None:
    """Raises UserError for a folder of the user's that is neither empty nor a store of the same source, which may be replaced."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        found = Store.open(path).card["place"]
    except UserError:
        raise UserError(f"{path} exists and is no whole store. Delete it, or name another folder with --out.") from None
    if found != place:
        raise UserError(f"{path} is a store of other data. Delete it, or name another folder with --out.")
