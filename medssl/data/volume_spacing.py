"""`data.spacing_mm=median`: the medians of the spacing of whole volumes, from their headers."""

import contextlib
from typing import Any

import numpy as np

from medssl.config import Data
from medssl.data.decode import build_reader
from medssl.errors import ReadError, UserError
from medssl.types import Source

_DIGITS = 4


def median_spacing(source: Source, data: Data) -> tuple[tuple[float, float, float], int]:
    """The median distance of slices, rows and columns in mm, and the number of volumes that state it; of an examination its first sequence
    counts. Volumes that cannot be read do not count. Raises UserError where no volume states its spacing."""
    readers: dict[str, Any] = {record.reader: build_reader(record.reader, data) for record in source.records}
    found = []
    for record in (each.sequences[0] if each.sequences else each for each in source.records):
        reader, files = readers[record.reader], [(source.root / locator, index) for locator, index in record.parts]
        with contextlib.suppress(ReadError):
            spacing = reader.spacing_of_parts(files) if files else reader.spacing_mm(source.root / record.locator)
            found += [spacing] if spacing else []
    if not found:
        raise UserError(f"data.spacing_mm=median: no volume of {data.path} states the size of its voxels. Write three numbers, or none.")
    slices, rows, columns = np.median(found, axis=0).round(_DIGITS).tolist()
    return (slices, rows, columns), len(found)
