"""From a record to its pixels, by the reader that the record names."""

from pathlib import Path
from typing import Any, Protocol

from medssl import plugins
from medssl.config import Data, PluginConfig
from medssl.types import Decoded, Record


class Reader(Protocol):
    """What `build` of every module in data/readers returns. `version` changes when the pixels do."""

    version: str

    def read(self, path: Path, index: int = 0) -> Decoded: ...


class Reading:
    """Reads the records below one root; each reader is made once."""

    def __init__(self, root: Path, data: Data) -> None:
        self._root = root
        self._data = data
        self._readers: dict[str, Reader] = {}

    def __call__(self, record: Record) -> Decoded:
        """The record's image. Raises ReadError."""
        if record.reader not in self._readers:
            self._readers[record.reader] = reader(record.reader, self._data)
        return self._readers[record.reader].read(self._root / record.locator, record.index)


def reader_config(name: str, data: Data) -> PluginConfig:
    """The reader's own options, taken from those of the data."""
    model = plugins.find("data.readers", name).Config
    options: dict[str, Any] = {"window": data.window, "non_finite": data.non_finite, "limits": data.limits}
    return model(**{key: value for key, value in options.items() if key in model.model_fields})


def reader(name: str, data: Data) -> Reader:
    """The reader of that name with the data's options."""
    return plugins.find("data.readers", name).build(reader_config(name, data))


def file_of(record: Record) -> str:
    """The file behind the record's locator: without the key that names an array inside it."""
    return record.locator.rpartition("#")[0] if record.reader == "npz" else record.locator
