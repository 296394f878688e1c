"""What a store was made from, and what it holds, each as a short hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from medssl.config import Data
from medssl.data import preparation
from medssl.data.reading import file_of, reader, reader_config
from medssl.data.store import STORE_FORMAT
from medssl.types import Record, Source


def fingerprint(source: Source, data: Data) -> str:
    """16 hex characters over all that decides what a store holds: the records with their labels, size and time of each file, the
    preparation, and the readers with their options and versions. The root's own path is not part of it."""
    digest = hashlib.sha256()
    settings = [STORE_FORMAT, source.kind, data.size, data.channels, preparation.VERSION, reader_versions(source, data)]
    _add(digest, settings + [reader_config(name, data).model_dump(mode="json") for name in _names(source)])
    for file in sorted({file_of(record) for record in source.records}):
        _add(digest, [file, *_stat(source.root / file)])
    for record in source.records:
        _add(digest, _facts(record))
    _add(digest, source.skipped)
    return digest.hexdigest()[:16]


def reader_versions(source: Source, data: Data) -> dict[str, str]:
    """The version of every reader that the source's records name."""
    return {name: reader(name, data).version for name in _names(source)}


def content(pixel_hashes: Iterable[str], labels: Iterable[Mapping[str, str]]) -> str:
    """64 hex characters over the images and their labels, whatever their order and wherever they lie."""
    lines = sorted(f"{pixels} {json.dumps(sorted(label.items()))}" for pixels, label in zip(pixel_hashes, labels, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _names(source: Source) -> list[str]:
    return sorted({record.reader for record in source.records})


def _facts(record: Record) -> list[object]:
    text = [record.locator, record.reader, record.index, record.patient, record.study, record.site, record.split]
    return [*text, sorted(record.labels.items()), sorted(record.extra.items())]


def _stat(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return (-1, -1)  # reading it will say why
    return (found.st_size, found.st_mtime_ns)


def _add(digest: "hashlib._Hash", value: object) -> None:
    digest.update(json.dumps(value).encode())
    digest.update(b"\n")
