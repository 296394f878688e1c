"""Preparing data, in three steps: plan the store, decode the images into chunks, join the chunks into the store.

The chunks are kept beside the store until the store is complete. So a preparation that was killed continues, and several machines can share
the work.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from medssl.config import Data
from medssl.data.audit import write_audit
from medssl.data.cache import private_folder
from medssl.data.decode import ImagePreparer
from medssl.data.patients import PatientOrigin
from medssl.data.store import Chunk, Plan, ReusableImages, Store, changed_setting, make_plan, write_chunk, write_store
from medssl.data.workers import run_in_workers
from medssl.errors import UserError, count_reasons
from medssl.types import Source

_DAY_SECONDS = 86400
_CHUNKS_DAYS = 30
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Shard:
    """One share of the work: number `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that a text such as "3/16" names. Raises UserError for other text."""
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise UserError(f"--shard {text}: write which share of how many, from 1, as in 3/16.")


def prepare(source: Source, data: Data, cache: Path, on_progress: OnProgress | None = None, out: Path | None = None) -> Store:
    """The store of that source, in <cache>/stores/<fingerprint> or in `out`. It is made where it is missing, damaged or of other data.

    `on_progress(done, total)` is called with numbers of records. Raises UserError where no image is usable, too many files are faulty
    (`data.max_bad_fraction`), a decoder is not installed, the disk has too little space, a folder cannot be written, or `out` holds
    anything but a store of the same source.
    """
    if source.kind == "store":
        return _check_settings(Store.open(source.root), data)
    plan = make_plan(source, data, cache, out)
    if not out:
        _remove_old_work(plan.path.parent)
    if (store := plan.existing_store()) is not None:
        return _state_patients(store, source)
    try:
        decode_chunks(plan, plan.chunks, on_progress)
        return join_chunks(plan)
    except (OSError, pa.ArrowException) as error:
        if (store := plan.existing_store()) is not None:
            return store  # another process has completed the store and deleted the chunks
        raise _cannot_write(plan, error) from error


def prepare_shard(
    source: Source, data: Data, cache: Path, shard: Shard, on_progress: OnProgress | None = None, out: Path | None = None
) -> int:
    """Decodes one share of the images into chunks beside the store. `prepare` then decodes what is missing and joins all chunks.

    Returns the number of records of the share. Raises UserError as `prepare` does.
    """
    plan = make_plan(source, data, cache, out)
    if plan.existing_store() is not None:
        return 0
    try:
        return decode_chunks(plan, plan.chunks[shard.number - 1 :: shard.count], on_progress)
    except (OSError, pa.ArrowException) as error:
        raise _cannot_write(plan, error) from error


def decode_chunks(plan: Plan, chunks: Sequence[Chunk], on_progress: OnProgress | None) -> int:
    """Writes the files of those `chunks` that are missing. Images in an earlier store are copied from there. Returns the number of records
    in all `chunks`."""
    if plan.data.missing_decoder == "stop":
        _check_decoders([detail for _, reason, detail in plan.source.skipped if reason == "missing_decoder"])
    private_folder(plan.chunk_folder)
    missing = [chunk for chunk in chunks if not chunk.file.is_file()]
    total, remaining = (sum(len(chunk.records) for chunk in group) for group in (chunks, missing))
    report = on_progress or (lambda _done, _total: None)
    report(done := total - remaining, total)
    reusable = ReusableImages(plan.path.parent, plan.place, plan.site)
    to_decode = (record for chunk in missing for record, made in zip(chunk.records, chunk.made, strict=True) if made not in reusable)
    images = run_in_workers(ImagePreparer, (plan.source.root, plan.data), to_decode, plan.data.limits, group_by=attrgetter("locator"))
    with contextlib.closing(images):
        for chunk in missing:
            outcomes = []
            for made in chunk.made:
                outcomes.append(reusable.load(made) if made in reusable else next(images))
                report(done := done + 1, total)
            write_chunk(chunk.file, outcomes)
    return total


def join_chunks(plan: Plan) -> Store:
    """Joins all chunks into the store, in a temporary folder that gets the store's name once it is complete. Then deletes the chunks."""
    with _temporary_folder(plan.path) as folder:
        write_store(plan, folder)
        write_audit(Store.open(folder), plan.source)
        shutil.rmtree(plan.path, ignore_errors=True)  # a store that is damaged, of other data, or made with another key
        folder.rename(plan.path)
    shutil.rmtree(plan.chunk_folder, ignore_errors=True)
    return Store.open(plan.path)


def _check_settings(store: Store, data: Data) -> Store:
    """The store, where it was prepared with the settings of the configuration. Raises UserError otherwise."""
    if changed := changed_setting(store.card["settings"], data):
        name, prepared, configured = changed
        raise UserError(f"{store.path} was prepared with data.{name} = {prepared}, not {configured}. Leave it out, or prepare again.")
    return store


def _state_patients(store: Store, source: Source) -> Store:
    """The store with the origin of its patients as the source states it: an earlier version did not write it, and a store is reused where
    patients that were guessed before are stated now under the same names."""
    return replace(store, card={**store.card, "patients": PatientOrigin.of(source.records).to_dict()})


def _cannot_write(plan: Plan, error: Exception) -> UserError:
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    remedy = "Name another folder with MEDSSL_CACHE or --out; a damaged chunk is made again once it is deleted."
    return UserError(f"The store {plan.path} cannot be written: {reason}. {remedy}")


@contextlib.contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` (mode 0700) for this process, for a `with` block. Its end deletes the folder unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial-{os.getpid()}-", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_old_work(folder: Path) -> None:
    """Deletes the files of killed preparations in the cache: temporary folders after a day, chunks after 30 days."""
    for pattern, days in (("*.partial-*", 1), ("*.chunks", _CHUNKS_DAYS)):
        for old in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > days * _DAY_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)


def _check_decoders(missing: Sequence[str]) -> None:
    """Raises UserError for missing decoders: each by name, with the number of files that need it."""
    if missing:
        raise UserError(
            f"Some files are compressed in a way that no installed decoder reads: {count_reasons(missing)}. Then run again; or leave these "
            "files out: --set data.missing_decoder=skip."
        )
