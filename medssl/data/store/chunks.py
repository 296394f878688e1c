"""Chunks: the files of a store that is not complete yet. Each holds the prepared images of about a hundred records.

A chunk's name is a hash of everything that decides its images, and the file is written once. So a preparation that was killed continues,
several machines can work on one store, and a chunk is not used after its image files or the settings have changed. A chunk holds no
information on patients: keys and labels are added when the chunks are joined.
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
_IMAGE_BYTES, _MIN_RECORDS, _MAX_RECORDS = 2**26, 8, 128
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
    """The slice of each chunk in a list of `records` records: 128 records, or fewer if the images are large. The slices are the same on
    every machine."""
    rows = min(_MAX_RECORDS, max(_MIN_RECORDS, _IMAGE_BYTES // (2 * data.channels * data.size**2)))
    for start in range(0, records, rows):
        yield slice(start, start + rows)


def write_chunk(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes the outcomes of a chunk's records as an Arrow file. The file gets its name once it is complete."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    with create_private(partial) as file:
        with pa.ipc.new_file(file, _SCHEMA) as arrow:
            arrow.write_table(pa.Table.from_pylist([_row(outcome) for outcome in outcomes], _SCHEMA))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def read_chunk(path: Path, data: Data) -> list[Outcome]:
    """The outcomes that `write_chunk` has written. Raises OSError or ArrowException for a damaged file."""
    with pa.OSFile(str(path)) as file:
        return [_outcome(row, data) for row in pa.ipc.open_file(file).read_all().to_pylist()]


def _row(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ReadError):
        return {"fault": str(outcome)}
    row_mm, column_mm = outcome.spacing_mm or (None, None)
    facts = {name: getattr(outcome, name) for name in ("bits", "height", "width", "pixel_hash", "perceptual_hash")}
    return {**facts, "row_mm": row_mm, "column_mm": column_mm, "image": outcome.image.tobytes()}


def _outcome(row: dict[str, Any], data: Data) -> Outcome:
    if row["fault"] is not None:
        return ReadError(row["fault"])
    shape = (data.channels, data.size, data.size)
    image = np.frombuffer(row["image"], np.uint16 if row["bits"] > 8 else np.uint8).reshape(shape)
    spacing = None if row["row_mm"] is None else (row["row_mm"], row["column_mm"])
    return PreparedImage(image, row["bits"], row["height"], row["width"], spacing, row["pixel_hash"], row["perceptual_hash"])
