"""Chunks: the files of a store that is not complete yet. Each holds the prepared images of about a hundred records.

A chunk's name is a hash of everything that decides its images, and the file is written once. So a preparation that was killed continues,
several machines can work on one store, and a chunk is not used after its image files or the settings have changed. A chunk holds no
information on patients: keys and labels are added when the chunks are joined.
"""

import math
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medssl.config import Data
from medssl.data.decode import PreparedImage
from medssl.data.image_hash import pixel_hash
from medssl.data.store.store import STORED_EDGES, TO_LPS
from medssl.data.store.writer import create_private
from medssl.errors import ReadError
from medssl.files import removed_on_error
from medssl.types import VolumeFacts

Outcome = PreparedImage | ReadError
_IMAGE_BYTES, _MIN_RECORDS, _MAX_RECORDS = 2**26, 8, 128
_OF_VOLUMES = ("orientation", "filled", "tilt_degrees")
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
        ("suspect", pa.string()),
        ("depth", pa.int32()),
        ("slice_mm", pa.float64()),
        ("orientation", pa.string()),
        ("filled", pa.int32()),
        ("tilt_degrees", pa.float64()),
        *((name, pa.int32()) for name in STORED_EDGES),
        (TO_LPS, pa.list_(pa.float64())),
        ("image", pa.large_binary()),
    ]
)


class DamagedChunk(Exception):
    """The file of a chunk does not hold what was written."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.name)
        self.file = file


def chunk_slices(records: int, data: Data) -> Iterator[slice]:
    """The slice of each chunk in a list of `records` records: 128 records, or fewer if the images are large; one where volumes
    have any size. The slices are the same on every machine."""
    least = 1 if data.volumetric else _MIN_RECORDS
    rows = 1 if data.volumes == "patches" else min(_MAX_RECORDS, max(least, _IMAGE_BYTES // (2 * math.prod(data.shape))))
    for start in range(0, records, rows):
        yield slice(start, start + rows)


def write_chunk(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes the outcomes of a chunk's records as an Arrow file. The file gets its name once it is complete; an error leaves none."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")  # machines may share the folder, and have equal process ids
    with removed_on_error(partial), create_private(partial) as file:
        with pa.ipc.new_file(file, _SCHEMA) as arrow:
            arrow.write_table(pa.Table.from_pylist([_row(outcome) for outcome in outcomes], _SCHEMA))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def read_chunk(path: Path, data: Data) -> list[Outcome]:
    """The outcomes that `write_chunk` has written. Raises DamagedChunk for other content, also where the pixels of an image have another
    hash, and OSError where the file cannot be read."""
    content = path.read_bytes()
    try:
        return [_outcome(row, data) for row in pa.ipc.open_file(content).read_all().to_pylist()]
    except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise DamagedChunk(path) from error


def rows_to_try(path: Path, passing: Collection[str]) -> Sequence[int] | None:
    """The rows of a chunk's file that were left out for one of the reasons `passing`; None where there is no such file or where it is
    damaged. The images are not read."""
    try:
        with pa.memory_map(str(path)) as file:
            faults = pa.ipc.open_file(file).read_all()["fault"].to_pylist()
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return [row for row, fault in enumerate(faults) if fault is not None and ReadError(fault).reason in passing]


def count_suspect(path: Path) -> int:
    """The number of images in a chunk's file that have a sign of damage. Raises OSError where the file cannot be read, DamagedChunk for
    other content."""
    return sum(bool(row.get("suspect")) for row in _columns(path, ("suspect",)))  # chunks of an earlier version have no such column


def count_voxels(path: Path) -> int:
    """The voxels of the volumes in a chunk's file, of one channel. Raises as `count_suspect` does."""
    return sum(math.prod(row.values()) for row in _columns(path, STORED_EDGES) if None not in row.values())


def _columns(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Those of the columns `names` that a chunk's file has, row by row, without its images."""
    with pa.memory_map(str(path)) as file:
        try:
            found = pa.ipc.open_file(file).read_all()
        except (pa.ArrowException, ValueError) as error:
            raise DamagedChunk(path) from error
        return found.select([name for name in names if name in found.column_names]).to_pylist()


def _row(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ReadError):
        return {"fault": str(outcome)}
    facts = {name: getattr(outcome, name) for name in ("bits", "height", "width", "pixel_hash", "perceptual_hash", "suspect")}
    return {**facts, **spacing_columns(outcome), **volume_columns(outcome), "image": outcome.image.tobytes()}


def spacing_columns(image: PreparedImage) -> dict[str, float | None]:
    """The spacing of rows and columns, by the names of the table's columns."""
    row_mm, column_mm = (image.spacing_mm or (None, None))[-2:]
    return {"row_mm": row_mm, "column_mm": column_mm}


def volume_columns(image: PreparedImage) -> dict[str, Any]:
    """What only volumes have, by the names of the table's columns; nothing for an image."""
    if image.volume is None:
        return {}
    slice_mm = image.spacing_mm[0] if image.spacing_mm else None
    edges = dict(zip(STORED_EDGES, image.image.shape[1:], strict=True))
    facts = {name: getattr(image.volume, name) for name in _OF_VOLUMES}
    to_lps = None if image.volume.to_lps is None else image.volume.to_lps[:3].ravel().tolist()
    return {"depth": image.depth, "slice_mm": slice_mm, **facts, **edges, TO_LPS: to_lps}


def volume_facts(row: Mapping[str, Any]) -> VolumeFacts:
    """The facts of a volume from a row of the table or of a chunk."""
    to_lps = None if row.get(TO_LPS) is None else np.vstack([np.reshape(row[TO_LPS], (3, 4)), (0, 0, 0, 1)])
    return VolumeFacts(row["orientation"], int(row["filled"]), float(row["tilt_degrees"]), to_lps=to_lps)


def _outcome(row: dict[str, Any], data: Data) -> Outcome:
    if row["fault"] is not None:
        return ReadError(row["fault"])
    image = np.frombuffer(row["image"], np.uint16 if row["bits"] > 8 else np.uint8)
    image = image.reshape((data.channels, *(row[name] for name in STORED_EDGES)) if data.volumes == "patches" else data.shape)
    if pixel_hash(image, row["bits"]) != row["pixel_hash"]:
        raise ValueError("the pixels are not those that were written")
    whole = volume_facts(row) if row.get("depth") else None
    spacing = None if row["row_mm"] is None else (*([row["slice_mm"]] if whole else []), row["row_mm"], row["column_mm"])
    size, hashes = (row["bits"], row["height"], row["width"]), (row["pixel_hash"], row["perceptual_hash"])
    return PreparedImage(image, *size, spacing, *hashes, row.get("suspect") or "", row.get("depth") or 0, whole)
