"""Decoding a record's pixels, and preparing them for the store."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medssl import plugins
from medssl.config import Data, PluginConfig
from medssl.data import preparation, volume_preparation
from medssl.data.image_hash import dhash, pixel_hash
from medssl.data.preparation import Preparation
from medssl.data.volume_channels import join_channels
from medssl.data.volume_preparation import VolumePreparation
from medssl.errors import ReadError
from medssl.types import Decoded, Record, Source, VolumeFacts, VolumeGrid


class Reader(Protocol):
    """The type that `build` of every module in data/readers and data/volume_readers returns. `version` changes when the decoded pixels
    change. `files`: those whose bytes decide what `read` returns for a path."""

    version: str

    def read(self, path: Path, index: int = 0) -> Decoded: ...

    def files(self, path: Path) -> tuple[Path, ...]: ...


class VolumeReader(Reader, Protocol):
    """What data/volume_readers have besides: the grid of a file's volumes by its header alone."""

    def grid(self, path: Path) -> VolumeGrid: ...


class PartsReader(Reader, Protocol):
    """A reader of volumes that many files make: the path of each slice's file, and its frame."""

    def read_parts(self, parts: Sequence[tuple[Path, int]]) -> Decoded: ...

    def grid_of_parts(self, parts: Sequence[tuple[Path, int]]) -> VolumeGrid: ...


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """`image`: uint8 or uint16 [C, size, size], or [C, *size] of a whole volume, which has its own size where
    patches of it are read. `bits`, `height`, `width`, `spacing_mm`: of the source's
    image before the preparation. The hashes are those of `image_hash`. `suspect`, `volume`: as in `Decoded`, but its `to_lps` leads from
    the voxels of `image`, where patches are read, and is None elsewhere; `depth`: the slices of a volume, 0 for an image."""

    image: np.ndarray
    bits: int
    height: int
    width: int
    spacing_mm: tuple[float, ...] | None
    pixel_hash: str
    perceptual_hash: str
    suspect: str = ""
    depth: int = 0
    volume: VolumeFacts | None = None


class RecordReader:
    """Reads the pixels of records below the folder `root`. Each reader is built once."""

    def __init__(self, root: Path, data: Data) -> None:
        self._root = root
        self._data = data
        self._readers: dict[str, Any] = {}

    def __call__(self, record: Record) -> Decoded:
        """The record's image or volume. Raises ReadError."""
        if record.sequences:
            return join_channels([self(each) for each in record.sequences])
        if record.reader not in self._readers:
            self._readers[record.reader] = build_reader(record.reader, self._data)
        reader = self._readers[record.reader]
        if record.parts:
            return reader.read_parts([(self._root / locator, index) for locator, index in record.parts])
        return reader.read(self._root / record.locator, record.index)


class ImagePreparer:
    """Reads and prepares the records below the folder `root`."""

    def __init__(self, root: Path, data: Data) -> None:
        self._read = RecordReader(root, data)
        self._prepare = build_preparation(data)

    def __call__(self, record: Record) -> PreparedImage:
        """The record's prepared image. Raises ReadError where the record cannot be used."""
        decoded = self._read(record)
        image = self._prepare(decoded)
        *depth, height, width = decoded.pixels.shape[1:]
        hashes = pixel_hash(image, decoded.bits), f"{dhash(image):016x}"
        slices = depth[0] if depth else 0
        facts = self._prepare.facts(decoded, image.shape[1:]) if isinstance(self._prepare, VolumePreparation) else None
        return PreparedImage(image, decoded.bits, height, width, decoded.spacing_mm, *hashes, decoded.suspect, slices, facts)


def volume_grids(source: Source, records: Sequence[Record], data: Data) -> Iterator[VolumeGrid]:
    """The grid of each volume, from the headers; of an examination that of its first sequence. Volumes that cannot be read are left out."""
    readers: dict[str, Any] = {}
    for record in (each.sequences[0] if each.sequences else each for each in records):
        reader = readers.setdefault(record.reader, build_reader(record.reader, data))
        files = [(source.root / locator, index) for locator, index in record.parts]
        with contextlib.suppress(ReadError, OSError, ValueError):
            yield reader.grid_of_parts(files) if files else reader.grid(source.root / record.locator)


def reader_config(name: str, data: Data) -> PluginConfig:
    """The configuration of a reader: the options of `data` that the reader has."""
    model = plugins.find(_readers(data), name).Config
    names = ("window", "non_finite", "used_bits", "min_slices", "limits")
    options: dict[str, Any] = {option: getattr(data, option) for option in names}
    return model(**{key: value for key, value in options.items() if key in model.model_fields})


def build_reader(name: str, data: Data) -> Reader:
    """The reader of that name with the data's options."""
    return plugins.find(_readers(data), name).build(reader_config(name, data))


def build_preparation(data: Data) -> Callable[[Decoded], np.ndarray]:
    """The preparation of images, or of whole volumes. Raises UserError for transforms that are not allowed."""
    return VolumePreparation(data) if data.volumetric else Preparation(data)


def preparation_version(data: Data) -> str:
    """Changes when the prepared pixels change."""
    return volume_preparation.VERSIONS[data.volumes] if data.volumetric else preparation.VERSION


def _readers(data: Data) -> str:
    """The kind of plug-in that reads images, or whole volumes."""
    return "data.volume_readers" if data.volumetric else "data.readers"
