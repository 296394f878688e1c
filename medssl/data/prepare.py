"""Preparing data once: from a source to a store in the cache, or the store that is there already."""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from medssl import __version__
from medssl.config import Data
from medssl.data.cache import site_key
from medssl.data.decode import prepared
from medssl.data.fingerprint import content, fingerprint, reader_versions
from medssl.data.identity import identify, keyed
from medssl.data.preparation import VERSION
from medssl.data.store import STORE_FORMAT, Store, pixel_hash
from medssl.data.writer import ImageWriter, created
from medssl.errors import ReadError, UserError
from medssl.types import Record, Source

_NORMAL = ("no_pixels", "not_an_image", "not_dicom")  # what every export from a PACS holds beside its images
_DAY_SECONDS = 86400
_Skipped = tuple[str, str, str, str]  # key, file, reason, detail


def prepare(source: Source, data: Data, cache: Path, on_progress: Callable[[int, int], None] | None = None) -> Store:
    """The store of that source: <cache>/stores/<fingerprint>, made where it is not there or is damaged.

    `on_progress(done, total)` is called after each record. Raises UserError: nothing usable, too many faulty files
    (`data.max_bad_fraction`), a decoder that is not installed, no space, a cache that cannot be written.
    """
    site = site_key(cache)
    path = cache / "stores" / fingerprint(source, data)
    if (store := _existing(path, site)) is not None:
        return store
    try:
        with _partial(path) as partial:
            _build(partial, source, data, site, path.name, on_progress)
            return _put(partial, path, site)
    except OSError as error:
        raise UserError(
            f"The cache {cache} cannot be written: {error.strerror or error}. Name another folder with MEDSSL_CACHE."
        ) from error


def _existing(path: Path, site: bytes) -> Store | None:
    """The store if it is there, whole, and keyed with this site's key."""
    with contextlib.suppress(UserError):
        store = Store.open(path)
        if store.card["site"] == _site_name(site):
            return store
    return None


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A folder of this process's own beside `path`, mode 0700; gone at the end unless it was renamed. Sweeps those of killed ones."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in path.parent.glob("*.partial-*"):
        if time.time() - old.stat().st_mtime > _DAY_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial-{os.getpid()}-", dir=path.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put(partial: Path, path: Path, site: bytes) -> Store:
    """Renames the finished folder. Another process may have been quicker: then its store is taken."""
    if (store := _existing(path, site)) is not None:
        return store
    shutil.rmtree(path, ignore_errors=True)  # damaged, or made with another key
    try:
        partial.rename(path)
    except OSError:
        if (store := _existing(path, site)) is not None:
            return store
        raise
    return Store.open(path)


def _build(folder: Path, source: Source, data: Data, site: bytes, name: str, on_progress: Callable[[int, int], None] | None) -> None:
    """Writes images, table, skipped and, last, the card."""
    rows: list[dict[str, Any]] = []
    skipped: list[_Skipped] = [(keyed(site, "sample", f"{file}#0"), file, reason, detail) for file, reason, detail in source.skipped]
    faults = [entry for entry in skipped if entry[2] not in _NORMAL]
    columns = _columns(source.records)
    writer = ImageWriter(folder / "images.npy", len(source.records), (data.channels, data.size, data.size))
    try:
        for done, (record, result) in enumerate(zip(source.records, prepared(source, data), strict=True), 1):
            if isinstance(result, ReadError):
                skipped.append((identify(record, site).key, record.locator, result.reason, result.detail))
                if result.reason not in _NORMAL or record.reader != "dicom":
                    faults.append(skipped[-1])
            else:
                writer.append(result[0])
                rows.append(_row(record, pixel_hash(*result), result[1], site, columns))
            if on_progress is not None:
                on_progress(done, len(source.records))
        _check(source, data, len(rows), skipped, faults)
        writer.finish()
    finally:
        writer.close()
    table = pd.DataFrame(rows)
    table_digest = _write(folder / "table.parquet", _parquet(table))
    _write(folder / "skipped.csv", _csv(skipped))
    card = _card(source, data, table, skipped, str(writer.dtype))
    card |= {"fingerprint": name, "site": _site_name(site), "table_sha256": table_digest}
    _write(folder / "card.json", json.dumps(card, indent=1).encode())


def _columns(records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """The names of all label and all extra columns."""
    return sorted({name for record in records for name in record.labels}), sorted({name for record in records for name in record.extra})


def _row(record: Record, pixels: str, bits: int, site: bytes, columns: tuple[list[str], list[str]]) -> dict[str, Any]:
    identity = identify(record, site)
    return {
        "key": identity.key,
        "patient": identity.patient,
        "study": identity.study,
        "site": record.site or "",
        "split": record.split or "",
        "pixel_hash": pixels,
        "bits": bits,
        **{f"label:{name}": record.labels.get(name, "") for name in columns[0]},
        **{f"extra:{name}": record.extra.get(name, "") for name in columns[1]},
    }


def _check(source: Source, data: Data, used: int, skipped: list[_Skipped], faults: list[_Skipped]) -> None:
    """Raises UserError for decoders that are missing, for nothing usable, and for more faulty files than the data may have."""
    missing = Counter(detail for _, _, reason, detail in skipped if reason == "missing_decoder")
    if missing:
        files = "; ".join(f"{number} x {detail}" for detail, number in sorted(missing.items()))
        raise UserError(f"Some files below {source.root} are compressed in a way that no installed decoder reads: {files}. Then run again.")
    if used == 0:
        raise UserError(f"No image below {source.root} can be used: {_summary(skipped)}. Check what --data names.")
    total = used + len(faults)
    if len(faults) > data.max_bad_fraction * total:
        raise UserError(
            f"{len(faults)} of {total} images below {source.root} are faulty, more than data.max_bad_fraction = "
            f"{data.max_bad_fraction:g} allows: {_summary(faults)}. Mend or remove them, or allow more: "
            f"--set data.max_bad_fraction={len(faults) / total + 0.005:.2f}."
        )


def _summary(skipped: list[_Skipped]) -> str:
    reasons = Counter(reason for _, _, reason, _ in skipped)
    first = ", ".join(f"{file} ({reason}: {detail})" for _, file, reason, detail in skipped[:3])
    return ", ".join(f"{number} x {reason}" for reason, number in reasons.most_common()) + f"; the first: {first}"


def _card(source: Source, data: Data, table: pd.DataFrame, skipped: list[_Skipped], dtype: str) -> dict[str, Any]:
    labels = table.filter(regex="^label:").rename(columns=lambda name: name.removeprefix("label:"))
    return {
        "format": STORE_FORMAT,
        "content": content(table["pixel_hash"], labels.to_dict("records")),
        "source": source.kind,
        "shape": [len(table), data.channels, data.size, data.size],
        "dtype": dtype,
        "channels": data.channels,
        "size": data.size,
        "preparation": {
            "version": VERSION,
            "window": data.window,
            "resize": "longer side to size, bilinear, antialiased",
            "padding": "black, on both sides of the shorter side",
        },
        "counts": {
            "records": len(source.records),
            "used": len(table),
            "skipped": dict(Counter(reason for _, _, reason, _ in skipped).most_common()),
            "patients": table["patient"].nunique(),
            "duplicates": int(table["pixel_hash"].duplicated().sum()),
            "bits": {str(bits): number for bits, number in sorted(Counter(table["bits"].tolist()).items())},
            "labels": {name: dict(sorted(Counter(labels[name]).items())) for name in labels},
        },
        "versions": {
            "medssl": __version__,
            "readers": reader_versions(source, data),
            **{package: version(package) for package in ("pydicom", "pillow", "torch", "numpy")},
        },
    }


def _site_name(site: bytes) -> str:
    """Tells one site's key from another's, and nothing of the key."""
    return keyed(site, "site", "")[:16]


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _csv(skipped: list[_Skipped]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("key", "file", "reason", "detail"), *skipped])
    return text.getvalue().encode()


def _write(path: Path, data: bytes) -> str:
    """Writes a file (0600) through to the disk; its sha256."""
    with created(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()
