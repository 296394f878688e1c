"""Hashes of a store: of the files and settings that it was made from, and of the images and labels that it holds."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medssl.config import Data
from medssl.data.decode import build_reader, preparation_version, reader_config
from medssl.types import Record, Source

_MODULUS = 2**256


class SourceHash:
    """The hash of everything that decides a record's prepared image: the sizes and times of the files that its reader reads, its index in
    the file, the reader with its version and options, and the settings of the preparation."""

    def __init__(self, source: Source, data: Data) -> None:
        self._root = source.root
        preparation_settings = [
            preparation_version(data),
            data.size,
            data.channels,
            data.spacing_mm,
            [step.model_dump() for step in data.transforms],
            *([data.limits.max_voxels] if data.volumes == "patches" else []),
        ]
        self._settings = {
            name: [*preparation_settings, name, version, _options(name, data)] for name, version in reader_versions(source, data).items()
        }
        self._readers = {name: build_reader(name, data) for name in self._settings}
        self._locator, self._sizes_and_times = "", (-1, -1)

    def of(self, record: Record) -> str:
        """32 hex characters for one record."""
        if record.sequences:
            return digest([self.of(each) for each in record.sequences])
        if record.parts:
            return self._of_parts(record)
        if record.locator != self._locator:  # the frames of a file are neighbours: its size and time are read once
            files = self._readers[record.reader].files(self._root / record.locator)
            self._locator, self._sizes_and_times = record.locator, _sizes_and_times(files)
        return digest([record.locator, record.index, *self._sizes_and_times, self._settings[record.reader]])

    def _of_parts(self, record: Record) -> str:
        files = [file for part in dict(record.parts) for file in self._readers[record.reader].files(self._root / part)]
        return digest([record.parts, *_sizes_and_times(files), self._settings[record.reader]])


def fingerprint(source: Source, source_hashes: Iterable[str], store_format: str) -> str:
    """16 hex characters: a hash of everything that decides what a store holds, which is the source hash and the metadata of each record.
    The path of the source's root is not part of it."""
    total = hashlib.sha256(json.dumps([store_format, source.kind, source.skipped]).encode())
    for record, source_hash in zip(source.records, source_hashes, strict=True):
        total.update(json.dumps([source_hash, *_metadata(record)]).encode())
    return total.hexdigest()[:16]


def reader_versions(source: Source, data: Data) -> dict[str, str]:
    """{reader: its version} for every reader that the source's records need."""
    return {name: build_reader(name, data).version for name in sorted({record.reader for record in source.records})}


class ContentHash:
    """64 hex characters for a set of images with labels: the sum of their hashes. The order of the images and their paths do not change
    it."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, pixel_hash: str, labels: Mapping[str, str]) -> None:
        line = f"{pixel_hash} {json.dumps(sorted((name, label) for name, label in labels.items() if label))}"
        self._sum = (self._sum + int(hashlib.sha256(line.encode()).hexdigest(), 16)) % _MODULUS

    def __str__(self) -> str:
        return f"{self._sum:064x}"


def _options(reader: str, data: Data) -> dict[str, Any]:
    """The options of a reader that decide the pixels. `used_bits` is among them only where it changes the images, and the limits of frames
    and of prepared voxels never are, so that stores of earlier versions keep their fingerprints."""
    options = reader_config(reader, data).model_dump(mode="json")
    if "limits" in options:
        options["limits"] = {name: value for name, value in options["limits"].items() if name not in ("max_frames", "max_voxels")}
    return {name: value for name, value in options.items() if (name, value) != ("used_bits", None)}


def _metadata(record: Record) -> list[object]:
    text = [record.patient, record.study, record.series, record.site, record.split]
    return [*text, sorted(record.labels.items()), sorted(record.extra.items())]


def _sizes_and_times(files: Iterable[Path]) -> tuple[int, ...]:
    try:
        return tuple(number for found in map(Path.stat, files) for number in (found.st_size, found.st_mtime_ns))
    except OSError:
        return (-1, -1)  # reading the file will state the reason


def digest(value: object) -> str:
    """32 hex characters: the hash of a value that JSON can represent."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
