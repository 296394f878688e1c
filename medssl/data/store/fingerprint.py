"""What a store was made from, and what it holds, each as a short hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from medssl.config import Data
from medssl.data import preparation
from medssl.data.decode import build_reader, file_path, reader_config
from medssl.types import Record, Source

_MODULUS = 2**256


class SourceHash:
    """Hashes what decides the image that a record becomes: its file's size and time, its place in the file, the reader with its version
    and options, the preparation."""

    def __init__(self, source: Source, data: Data) -> None:
        self._root = source.root
        own = [preparation.VERSION, data.size, data.channels, data.spacing_mm, [step.model_dump() for step in data.transforms]]
        self._settings = {
            name: [*own, name, version, reader_config(name, data).model_dump(mode="json")]
            for name, version in reader_versions(source, data).items()
        }
        self._file, self._size_and_time = "", (-1, -1)

    def of(self, record: Record) -> str:
        """32 hex characters for one record."""
        file = file_path(record)
        if file != self._file:  # frames of a file follow each other
            self._file, self._size_and_time = file, _size_and_time(self._root / file)
        return digest([record.locator, record.index, *self._size_and_time, self._settings[record.reader]])


def fingerprint(source: Source, source_hashes: Iterable[str], store_format: str) -> str:
    """16 hex characters over all that decides what a store holds: the source hash of each record, and what the source says of it. The
    root's own path is not part of it."""
    total = hashlib.sha256(json.dumps([store_format, source.kind, source.skipped]).encode())
    for record, source_hash in zip(source.records, source_hashes, strict=True):
        total.update(json.dumps([source_hash, *_metadata(record)]).encode())
    return total.hexdigest()[:16]


def reader_versions(source: Source, data: Data) -> dict[str, str]:
    """The version of every reader that the source's records name."""
    return {name: build_reader(name, data).version for name in sorted({record.reader for record in source.records})}


class ContentHash:
    """64 hex characters over images and their labels, whatever their order and wherever they lie: the sum of their hashes."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, pixel_hash: str, labels: Mapping[str, str]) -> None:
        line = f"{pixel_hash} {json.dumps(sorted((name, label) for name, label in labels.items() if label))}"
        self._sum = (self._sum + int(hashlib.sha256(line.encode()).hexdigest(), 16)) % _MODULUS

    def __str__(self) -> str:
        return f"{self._sum:064x}"


def _metadata(record: Record) -> list[object]:
    text = [record.patient, record.study, record.series, record.site, record.split]
    return [*text, sorted(record.labels.items()), sorted(record.extra.items())]


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        files = [file, file.with_suffix(".img")] if file.suffix.lower() == ".hdr" else [file]  # NIfTI in two files
        found = [each.stat() for each in files]
    except OSError:
        return (-1, -1)  # reading it will say why
    return (sum(each.st_size for each in found), max(each.st_mtime_ns for each in found))


def digest(value: object) -> str:
    """32 hex characters of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
