"""Preparing data, in three steps: plan the store, decode the images into chunks, join the chunks into the store.

The chunks are kept beside the store until the store is complete. So a preparation that was killed continues, and several machines can share
the work.
"""

import contextlib
import errno
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from medssl.config import Data
from medssl.data.audit import write_audit
from medssl.data.cache import private_folder
from medssl.data.decode import ImagePreparer, PreparedImage, volume_grids
from medssl.data.negatives import Negatives
from medssl.data.patients import PatientOrigin
from medssl.data.preparation import check_transforms
from medssl.data.store import (
    PASSING_REASONS,
    Chunk,
    DamagedChunk,
    Plan,
    ReusableImages,
    Store,
    changed_setting,
    check_space,
    csv_text,
    list_named_images,
    lock_store,
    make_plan,
    private_list,
    read_chunk,
    records_to_try,
    rows_to_try,
    with_pixel_keys,
    write_chunk,
    write_private,
    write_store,
)
from medssl.data.volume_preparation import voxels_in_full
from medssl.data.workers import run_in_workers
from medssl.errors import ReadError, UserError, count_reasons
from medssl.types import Record, Source

_DAY_SECONDS = 86400
_CHUNKS_DAYS = 30
_HEADERS = 32  # of volumes, by which the space for all is estimated: a series of DICOM may have hundreds of files
_TIMES_LONGER = 10  # than an image a whole volume may take, which has hundreds of slices
OnProgress = Callable[[int, int], None]


def _quiet(*_: object) -> None:
    """Tells nobody."""


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


def prepare(
    source: Source,
    data: Data,
    cache: Path,
    on_progress: OnProgress = _quiet,
    out: Path | None = None,
    *,
    retry: bool = True,
    on_wait: Callable[[str], None] = _quiet,
) -> Store:
    """The store of that source, in <cache>/stores/<fingerprint> or in `out`. It is made where it is missing, damaged or of other data.

    `on_progress(done, total)` is called with numbers of records. `retry`: whether images that an earlier preparation has left out for a
    reason of the machine (a file that could not be opened, a time limit) are tried again; the store is made again where one of them can be
    used now. Several processes may prepare the same data at once: one does the work, and `on_wait` tells the others that they wait.

    Raises UserError where no image is usable, too many files are faulty (`data.max_bad_fraction`), a transform of `data` fails, a decoder
    is not installed, the disk has too little space, a folder cannot be written, or `out` holds anything but a store of the same source.
    """
    if source.kind == "store":
        return with_pixel_keys(_check_settings(Store.open(source.root), data), cache)
    plan = make_plan(source, data, cache, out)
    if not out:
        _remove_old_work(plan.path.parent)
    return with_pixel_keys(_state_patients(_find_or_make(plan, on_progress, retry, on_wait), source), cache)


def _find_or_make(plan: Plan, on_progress: OnProgress, retry: bool, on_wait: Callable[[str], None]) -> Store:
    found = plan.existing_store()
    if found is not None and not (retry and records_to_try(plan, found)):
        return found
    try:
        private_folder(plan.path.parent)
        with lock_store(plan.path, on_wait):
            found = plan.existing_store()  # another process may have made the store meanwhile
            if found is not None and not (retry and _any_is_mended(plan, records_to_try(plan, found))):
                return found
            return _make_store(plan, on_progress)
    except (OSError, pa.ArrowException) as error:
        if found is not None or (found := plan.existing_store()) is not None:
            return found  # a folder that can only be read; or, on a drive without locks, another process was faster
        raise _cannot_write(plan, error) from error


def prepare_shard(source: Source, data: Data, cache: Path, shard: Shard, on_progress: OnProgress = _quiet, out: Path | None = None) -> int:
    """Decodes one share of the images into chunks beside the store. `prepare` then decodes what is missing and joins all chunks.

    Returns the number of records of the share. Raises UserError as `prepare` does.
    """
    plan = make_plan(source, data, cache, out)
    if plan.existing_store() is not None:
        return 0
    try:
        return decode_chunks(plan, plan.chunks[shard.number - 1 :: shard.count], on_progress)
    except (OSError, pa.ArrowException) as error:
        if plan.existing_store() is not None:
            return 0  # another process has joined all chunks and deleted them
        raise _cannot_write(plan, error) from error


def decode_chunks(plan: Plan, chunks: Sequence[Chunk], on_progress: OnProgress) -> int:
    """Writes the files of those `chunks` that are missing or damaged, or that left out images for a reason that may have passed. Images in
    an earlier store are copied from there. Returns the number of records in all `chunks`."""
    if plan.data.missing_decoder == "stop":
        _check_decoders([detail for _, reason, detail in plan.source.skipped if reason == "missing_decoder"])
    private_folder(plan.chunk_folder)
    rows = {chunk.file: rows_to_try(chunk.file, PASSING_REASONS) for chunk in chunks}
    missing = [chunk for chunk in chunks if rows[chunk.file] != []]
    total, remaining = (sum(len(chunk.records) for chunk in group) for group in (chunks, missing))
    on_progress(done := total - remaining, total)
    if not missing:
        return total
    check_transforms(plan.data)
    wide, pixels = False, _pixels_each(plan)
    _check_space(plan, remaining, pixels)
    reusable = ReusableImages(plan.path.parent, plan.place, plan.site)
    to_decode = [[n for n in _rows(chunk, rows[chunk.file]) if chunk.made[n] not in reusable] for chunk in missing]
    images = _decode(plan, (chunk.records[n] for chunk, numbers in zip(missing, to_decode, strict=True) for n in numbers))
    with contextlib.closing(images):
        for chunk, numbers in zip(missing, to_decode, strict=True):
            kept = read_chunk(chunk.file, plan.data) if rows[chunk.file] else []
            outcomes = []
            for n, made in enumerate(chunk.made):
                outcomes.append(next(images) if n in numbers else reusable.load(made) if made in reusable else kept[n])
                on_progress(done := done + 1, total)
            write_chunk(chunk.file, outcomes)
            remaining -= len(chunk.records)
            if not wide and any(isinstance(outcome, PreparedImage) and outcome.bits > 8 for outcome in outcomes):
                wide = True
                _check_space(plan, remaining, 2 * pixels)
    return total


def join_chunks(plan: Plan) -> Store:
    """Joins all chunks into the store, in a temporary folder that gets the store's name once it is complete. Then deletes the chunks.
    Raises DamagedChunk for a chunk that does not hold what was written."""
    with _temporary_folder(plan.path) as folder:
        write_store(plan, folder)
        store = Store.open(folder)
        _name_negatives(plan, store, write_audit(store, plan.source))
        shutil.rmtree(
            plan.path, ignore_errors=True
        )  # a store that is damaged, of other data, made with another key, or without some images
        folder.rename(plan.path)
    shutil.rmtree(plan.chunk_folder, ignore_errors=True)
    return Store.open(plan.path)


def _name_negatives(plan: Plan, store: Store, negatives: Negatives) -> None:
    """Writes the names of the files that look like negatives of the others into the operator's list. Deletes an old list where there are
    none."""
    file, rows = private_list(plan.cache, plan.fingerprint, "negatives"), set(negatives.rows.tolist())
    file.unlink(missing_ok=True)
    if rows:
        named = (image for image in list_named_images(store, plan.source, plan.key) if image.row in rows)
        write_private(file, csv_text([("file", "index", "row"), *((image.file, str(image.index), str(image.row)) for image in named)]))


def _make_store(plan: Plan, on_progress: OnProgress) -> Store:
    """Decodes what is missing, and joins all chunks. A damaged chunk is decoded again; damaged once more, it is an error of the disk."""
    damaged: set[Path] = set()
    while True:
        decode_chunks(plan, plan.chunks, on_progress)
        try:
            return join_chunks(plan)
        except DamagedChunk as error:
            if error.file in damaged:
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
            damaged.add(error.file)
            error.file.unlink()


def _decode(plan: Plan, records: Iterable[Record]) -> Generator[PreparedImage | ReadError]:
    """The prepared image of each record, or why it has none. The images of a file go to one worker."""
    arguments = plan.source.root, plan.data.model_copy(update={"path": "", "label": ""})
    places = (record.place for record in records)
    if plan.data.volumetric:
        limits = plan.data.limits.model_copy(update={"seconds": _TIMES_LONGER * plan.data.limits.seconds})
        return run_in_workers(ImagePreparer, arguments, places, limits, group_by=attrgetter("locator"), large=True)
    return run_in_workers(ImagePreparer, arguments, places, plan.data.limits, group_by=attrgetter("locator"))


def _any_is_mended(plan: Plan, records: Sequence[Record]) -> bool:
    """Whether at least one of these records has another outcome now than a reason that may pass."""
    with contextlib.closing(_decode(plan, records)) as outcomes:
        return any(not isinstance(outcome, ReadError) or outcome.reason not in PASSING_REASONS for outcome in outcomes)


def _rows(chunk: Chunk, found: Sequence[int] | None) -> Sequence[int]:
    """The rows of a chunk that are decoded: all where nothing was `found` on the disk."""
    return range(len(chunk.records)) if found is None else found


def _pixels_each(plan: Plan) -> int:
    """The pixels of a prepared image, of all channels. Where volumes have any size, the mean of those of some volumes, by their headers."""
    if plan.data.volumes != "patches":
        return math.prod(plan.data.shape)
    records = plan.source.records[:: -(-len(plan.source.records) // _HEADERS)]
    voxels = [voxels_in_full(grid, plan.data) for grid in volume_grids(plan.source, records, plan.data)]
    return round(sum(voxels) / len(records))


def _check_space(plan: Plan, remaining: int, bytes_each: int) -> None:
    """Raises UserError where the disk has too little space for the chunks of `remaining` records and for the store, with so many bytes for
    each image."""
    check_space(plan.path.parent, (remaining + len(plan.source.records)) * bytes_each, in_full=plan.data.volumes == "patches")


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
    return UserError(f"The store {plan.path} cannot be written: {reason}. Name another folder with MEDSSL_CACHE or --out.")


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
