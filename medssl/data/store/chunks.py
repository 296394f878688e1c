"""The chunks of a store that is being made: each file holds the images of some hundred records.

A chunk is written once, under a name made of all that decides its images. So a preparation goes on where it was killed, many machines can
work on one store, and a chunk whose files or settings have changed since is not used. A chunk holds nothing of a patient: keys and labels
are added when the chunks are joined.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medssl.config import Data
from medssl.data.decode import PreparedImage
from medssl.data.store.writer import create_private
from medssl.errors import ReadError

Outcome = PreparedImage | ReadError
_BYTES, _LEAST, _MOST = 2**26, 8, 128
_SCHEMA = pa.schema(
    [
        ("fault", pa.string()),
        ("bits", pa.int16()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("row_mm", pa.float64()),
        ("column_mm", pa.float64()),
        ("pixel_hash", pa.string()),
        ("perceptual_hash", pa.string()),
        ("image", pa.large_binary()),
    ]
)


def chunk_slices(records: int, data: Data) -> Iterator[slice]:
    """The rows of each chunk out of so many records, the same on every machine: 128, or fewer of large images."""
    rows = min(_MOST, max(_LEAST, _BYTES // (2 * data.channels * data.size**2)))
    for start in range(0, records, rows):
        yield slice(start, start + rows)


def write_chunk(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes the outcomes of a chunk's records as an Arrow file, which gets its name once it is whole."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    with create_private(partial) as file:
        with pa.ipc.new_file(file, _SCHEMA) as arrow:
            arrow.write_table(pa.Table.from_pylist([_row(outcome) for outcome in outcomes], _SCHEMA))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def read_chunk(path: Path, data: Data) -> list[Outcome]:
    """What was written. Raises OSError or ArrowException for a file that is not whole."""
    with pa.OSFile(str(path)) as file:
        return [_outcome(row, data) for row in pa.ipc.open_file(file).read_all().to_pylist()]


def _row(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ReadError):
        return {"fault": str(outcome)}
    row_mm, column_mm = outcome.spacing_mm or (None, None)
    own = {name: getattr(outcome, name) for name in ("bits", "height", "width", "pixel_hash", "perceptual_hash")}
    return {**own, "row_mm": row_mm, "column_mm": column_mm, "image": outcome.image.tobytes()}


def _outcome(row: dict[str, Any], data: Data) -> Outcome:
    if row["fault"] is not None:
        return ReadError(row["fault"])
    shape = (data.channels, data.size, data.size)
    image = np.frombuffer(row["image"], np.uint16 if row["bits"] > 8 else np.uint8).reshape(shape)
    spacing = None if row["row_mm"] is None else (row["row_mm"], row["column_mm"])
    return PreparedImage(image, row["bits"], row["height"], row["width"], spacing, row["pixel_hash"], row["perceptual_hash"])
