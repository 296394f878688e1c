"""Preparing data once: from a source to a store in the cache, or in a folder of the user's, or the store that is there already.

The work lies in parts beside the store until it is whole: a preparation that was killed goes on, several machines may share it.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from medssl.config import Data
from medssl.data.audit import write_audit
from medssl.data.cache import private_folder, site_key
from medssl.data.decode import ImagePreparer
from medssl.data.pseudonyms import pseudonym
from medssl.data.store import SETTINGS, STORE_FORMAT, Store, chunks, csv_text, write_private
from medssl.data.store.assemble import Assembly, Skipped
from medssl.data.store.fingerprint import SourceHash, fingerprint
from medssl.data.store.reuse import ReusableImages
from medssl.data.workers import run_in_workers
from medssl.errors import UserError, count_reasons
from medssl.types import Record, Source

_DAY_SECONDS = 86400
_PARTS_DAYS = 30
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Shard:
    """Number `number` of `count` shares of the work, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """ "3/16". Raises UserError for anything else."""
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise UserError(f"--shard {text}: write which share of how many, from 1, as in 3/16.")


def prepare(source: Source, data: Data, cache: Path, on_progress: OnProgress | None = None, out: Path | None = None) -> Store:
    """The store of that source, in <cache>/stores/<fingerprint> or in `out`; made where it is not there, is damaged or is of other data.

    `on_progress(done, total)` is called as records are finished. Raises UserError: nothing usable, too many faulty files
    (`data.max_bad_fraction`), a decoder that is not installed, no space, a folder that cannot be written, an `out` that holds
    something else than a store of the same place.
    """
    if source.kind == "store":
        return _as_asked(Store.open(source.root), data)
    work = _Work(source, data, cache, out)
    if (store := work.existing()) is not None:
        return store
    try:
        work.fill(None, on_progress)
        with _partial(work.path) as partial:
            work.assemble(partial)
            return work.put(partial)
    except (OSError, pa.ArrowException) as error:
        if (store := work.existing()) is not None:
            return store  # another process was quicker, and has taken the parts away
        raise work.cannot_write(error) from error


def prepare_shard(
    source: Source, data: Data, cache: Path, shard: Shard, on_progress: OnProgress | None = None, out: Path | None = None
) -> int:
    """Does one share of the work and leaves it beside the store; `prepare` puts all shares together, and does what is missing.

    Returns the number of its records. The errors are those of `prepare`.
    """
    work = _Work(source, data, cache, out)
    try:
        return 0 if work.existing() is not None else work.fill(shard, on_progress)
    except (OSError, pa.ArrowException) as error:
        raise work.cannot_write(error) from error


class _Work:
    """One source on its way to a store."""

    def __init__(self, source: Source, data: Data, cache: Path, out: Path | None) -> None:
        self.source, self.data, self.cache = source, data, cache
        self.site = site_key(cache)
        making = SourceHash(source, data)
        self.made = [making.of(record) for record in source.records]
        self.name = fingerprint(source, self.made, STORE_FORMAT)
        self.path = (out.expanduser().absolute() if out else cache / "stores" / self.name).resolve()
        self.parts = self.path.with_name(self.path.name + ".parts")
        self.place = pseudonym(self.site, "place", str(source.root))
        if out:
            self._check_out()
        else:
            _sweep(self.path.parent)

    def existing(self) -> Store | None:
        """The store if it is there, whole, of the same data, and keyed with this site's key."""
        with contextlib.suppress(UserError):
            store = Store.open(self.path)
            if (store.card["site"], store.card["fingerprint"]) == (self._site_name(), self.name):
                return store
        return None

    def fill(self, shard: Shard | None, on_progress: OnProgress | None) -> int:
        """Writes the parts that are missing, of one shard or of all; the number of records in them."""
        if self.data.missing_decoder == "stop":
            _check_decoders([detail for _, reason, detail in self.source.skipped if reason == "missing_decoder"])
        private_folder(self.parts)
        wanted = [part for part in self._parts() if shard is None or part[0] % shard.count == shard.number - 1]
        total = sum(len(records) for _, records, _, _ in wanted)
        missing = [part for part in wanted if not part[3].is_file()]
        done = total - sum(len(records) for _, records, _, _ in missing)
        tell = on_progress or (lambda _done, _total: None)
        tell(done, total)
        earlier = ReusableImages(self.path.parent, self.place, self._site_name())
        all_missing = ((record, own) for _, records, made, _ in missing for record, own in zip(records, made, strict=True))
        fresh = (record for record, own in all_missing if self._key(own) not in earlier)
        results = run_in_workers(ImagePreparer, (self.source.root, self.data), fresh, self.data.limits, together=_file)
        with contextlib.closing(results):
            for _, _, made, path in missing:
                outcomes: list[chunks.Outcome] = []
                for key in map(self._key, made):
                    outcomes.append(earlier.find(key) if key in earlier else next(results))
                    tell(done := done + 1, total)
                chunks.write_chunk(path, outcomes)
        return total

    def assemble(self, folder: Path) -> None:
        """Writes the store into `folder` from the parts."""
        store = Assembly(folder, self.source, self.data, self.site)
        try:
            for _, records, made, path in self._parts():
                store.add(records, made, chunks.read_chunk(path, self.data))
            self._list_skipped(store.skipped)
            self._check(store)
            store.finish({"fingerprint": self.name, "site": self._site_name(), "place": self.place})
        finally:
            store.close()
        write_audit(Store.open(folder), self.source)

    def put(self, partial: Path) -> Store:
        """Gives the finished folder its name, and takes the parts away."""
        shutil.rmtree(self.path, ignore_errors=True)  # damaged, of other data, or made with another key
        partial.rename(self.path)
        shutil.rmtree(self.parts, ignore_errors=True)
        return Store.open(self.path)

    def cannot_write(self, error: Exception) -> UserError:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        remedy = "Name another folder with MEDSSL_CACHE or --out; a damaged part is made again once it is deleted."
        return UserError(f"The store {self.path} cannot be written: {reason}. {remedy}")

    def _check_out(self) -> None:
        """Raises UserError for a folder of the user's that is neither empty nor a store of the same place, which may be replaced."""
        if not self.path.exists() or _empty(self.path):
            return
        try:
            place = Store.open(self.path).card["place"]
        except UserError:
            raise UserError(f"{self.path} exists and is no whole store. Delete it, or name another folder with --out.") from None
        if place != self.place:
            raise UserError(f"{self.path} is a store of other data. Delete it, or name another folder with --out.")

    def _key(self, made: str) -> str:
        return pseudonym(self.site, "made", made)

    def _parts(self) -> Iterator[tuple[int, Sequence[Record], list[str], Path]]:
        """Number, records, what they are made of, and file of each part."""
        start = 0
        for number, records in enumerate(chunks.chunk_records(self.source.records, self.data)):
            made = self.made[start : start + len(records)]
            start += len(records)
            yield number, records, made, self.parts / f"{number:06}-{pseudonym(b'', 'part', ''.join(made))}.part"

    def _list_skipped(self, skipped: Sequence[Skipped]) -> None:
        """The operator's list, the only one that names files, lies beside the site's key."""
        private = private_list(self.cache, self.name)
        private_folder(private.parent)
        private.unlink(missing_ok=True)
        if skipped:
            write_private(private, csv_text([("file", "reason", "detail", "key"), *((s.file, s.reason, s.detail, s.key) for s in skipped)]))

    def _check(self, store: Assembly) -> None:
        """Raises UserError for nothing usable, and for more faulty files than the data may have."""
        faults = [item.reason for item in store.skipped if item.fault]
        total = store.used + len(faults)
        named = f"They are named in {private_list(self.cache, self.name)}"
        if store.used == 0:
            reasons = count_reasons(item.reason for item in store.skipped)
            raise UserError(f"No image of {self.data.path or self.source.root} can be used: {reasons}. {named}; check what --data names.")
        if len(faults) > self.data.max_bad_fraction * total:
            raise UserError(
                f"{len(faults)} of {total} images are faulty, more than data.max_bad_fraction = {self.data.max_bad_fraction:g} allows: "
                f"{count_reasons(faults)}. {named}. Mend or remove them, or allow more: "
                f"--set data.max_bad_fraction={len(faults) / total + 0.005:.2f}."
            )

    def _site_name(self) -> str:
        """Tells one site's key from another's, and nothing of the key."""
        return pseudonym(self.site, "site", "")[:16]


def _as_asked(store: Store, data: Data) -> Store:
    """The store, if it was prepared as the configuration says. Raises UserError otherwise."""
    made, asked = store.card["settings"], data.model_dump(mode="json")
    if other := [name for name in SETTINGS if made[name] != asked[name]]:
        name = other[0]
        raise UserError(f"{store.path} was prepared with data.{name} = {made[name]}, not {asked[name]}. Leave it out, or prepare again.")
    return store


def private_list(cache: Path, name: str) -> Path:
    """The list of left-out files of the store with that fingerprint: the one output that names files, never to leave the site."""
    return cache / "private" / f"{name}-skipped.csv"


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A folder of this process's own beside `path`, mode 0700; gone at the end unless it was renamed."""
    partial = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial-{os.getpid()}-", dir=path.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Takes away what killed preparations left in the cache and nobody came back for."""
    for pattern, days in (("*.partial-*", 1), ("*.parts", _PARTS_DAYS)):
        for old in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > days * _DAY_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)


def _check_decoders(missing: Sequence[str]) -> None:
    """Raises UserError that names each decoder that is missing, with the number of files that need it."""
    if missing:
        raise UserError(
            f"Some files are compressed in a way that no installed decoder reads: {count_reasons(missing)}. Then run again; or leave these "
            "files out: --set data.missing_decoder=skip."
        )


def _file(record: Record) -> str:
    return record.locator


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
