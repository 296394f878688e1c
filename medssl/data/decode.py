"""Decoding a record's pixels, and preparing them for the store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medssl import plugins
from medssl.config import Data, PluginConfig
from medssl.data.image_hash import dhash, pixel_hash
from medssl.data.preparation import Preparation
from medssl.types import Decoded, Record


class Reader(Protocol):
    """The type that `build` of every module in data/readers returns. `version` changes when the decoded pixels change. `files`: those
    whose bytes decide what `read` returns for a path."""

    version: str

    def read(self, path: Path, index: int = 0) -> Decoded: ...

    def files(self, path: Path) -> tuple[Path, ...]: ...


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """`image`: uint8 or uint16 [C, size, size]. `bits`, `height`, `width`, `spacing_mm`: of the source's image before the preparation. The
    hashes are those of `image_hash`. `suspect`: as in `Decoded`."""

    image: np.ndarray
    bits: int
    height: int
    width: int
    spacing_mm: tuple[float, float] | None
    pixel_hash: str
    perceptual_hash: str
    suspect: str = ""


class RecordReader:
    """Reads the pixels of records below the folder `root`. Each reader is built once."""

    def __init__(self, root: Path, data: Data) -> None:
        self._root = root
        self._data = data
        self._readers: dict[str, Reader] = {}

    def __call__(self, record: Record) -> Decoded:
        """The record's image. Raises ReadError."""
        if record.reader not in self._readers:
            self._readers[record.reader] = build_reader(record.reader, self._data)
        return self._readers[record.reader].read(self._root / record.locator, record.index)


class ImagePreparer:
    """Reads and prepares the records below the folder `root`."""

    def __init__(self, root: Path, data: Data) -> None:
        self._read = RecordReader(root, data)
        self._prepare = Preparation(data)

    def __call__(self, record: Record) -> PreparedImage:
        """The record's prepared image. Raises ReadError where the record cannot be used."""
        decoded = self._read(record)
        image = self._prepare(decoded)
        height, width = decoded.pixels.shape[1:]
        hashes = pixel_hash(image, decoded.bits), f"{dhash(image):016x}"
        return PreparedImage(image, decoded.bits, height, width, decoded.spacing_mm, *hashes, decoded.suspect)


def reader_config(name: str, data: Data) -> PluginConfig:
    """The configuration of a reader: the options of `data` that the reader has."""
    model = plugins.find("data.readers", name).Config
    options: dict[str, Any] = {"window": data.window, "non_finite": data.non_finite, "used_bits": data.used_bits, "limits": data.limits}
    return model(**{key: value for key, value in options.items() if key in model.model_fields})


def build_reader(name: str, data: Data) -> Reader:
    """The reader of that name with the data's options."""
    return plugins.find("data.readers", name).build(reader_config(name, data))
