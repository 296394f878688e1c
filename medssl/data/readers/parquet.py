"""Images inside a Parquet file: `file.parquet#column` names a column of struct<bytes, path> or of bytes, whose cells are picture files."""

from io import BytesIO
from pathlib import Path

import pyarrow
from pyarrow import parquet
from pydantic import Field

from medssl.config import Limits, PluginConfig
from medssl.data.formats import LastOpened, open_regular_file, raise_if_of_the_machine
from medssl.data.readers import raster
from medssl.errors import ReadError
from medssl.types import Decoded


class Config(PluginConfig):
    name: str = "parquet"
    used_bits: int | None = Field(default=None, description="As data.used_bits.")
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class Reader:
    """Reads the picture in one row. The last group of rows is kept in memory."""

    version = "1"

    def __init__(self, config: Config) -> None:
        self._limits = config.limits
        self._pictures = raster.build(raster.Config(used_bits=config.used_bits, limits=config.limits))
        self._files = LastOpened[parquet.ParquetFile]()
        self._rows = LastOpened[list[bytes | None]]()

    def read(self, path: Path, index: int = 0) -> Decoded:
        """The picture in row `index` of the column that `path` names (`file.parquet#column`).

        Raises ReadError: what the raster reader raises, no_such_row, too_big, too_much_memory, truncated (the Parquet file is damaged).
        """
        name, _, column = str(path).rpartition("#")
        try:
            file = self._files.get(name, lambda stack: parquet.ParquetFile(stack.enter_context(open_regular_file(Path(name)))))
            group, row = self._find(file, index)
            content = self._rows.get((name, column, group), lambda _: _read_group(file, group, column))[row]
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise_if_of_the_machine(error)
            raise ReadError(f"truncated: the Parquet file is damaged ({type(error).__name__})") from error
        if not content:
            raise ReadError("empty: the cell has no bytes")
        return self._pictures.read_stream(BytesIO(content))

    def files(self, path: Path) -> tuple[Path, ...]:
        """The Parquet file that `path` (`file.parquet#column`) names."""
        return (Path(str(path).rpartition("#")[0]),)

    def _find(self, file: parquet.ParquetFile, index: int) -> tuple[int, int]:
        """The number of the group of rows that holds row `index`, and the row's number in it."""
        row = index
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            if 0 <= row < facts.num_rows:
                if 2 * facts.total_byte_size > self._limits.memory_bytes:
                    raise ReadError(f"too_big: {facts.total_byte_size} bytes in one group of rows; write the file with smaller groups")
                return group, row
            row -= facts.num_rows
        raise ReadError(f"no_such_row: row {index} of {file.metadata.num_rows}")


def build(config: Config) -> Reader:
    """The reader that `config` describes."""
    return Reader(config)


def recognises(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a Parquet file."""
    return head.startswith(b"PAR1")


def _read_group(file: parquet.ParquetFile, group: int, column: str) -> list[bytes | None]:
    cells = file.read_row_group(group, columns=[column]).column(column)
    return [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells.to_pylist()]
