"""`data.spacing_mm=median`: the medians of the spacing of whole volumes, from their headers."""

import numpy as np

from medssl.config import Data
from medssl.data.decode import volume_grids
from medssl.errors import UserError
from medssl.types import Source

_DIGITS = 4


def median_spacing(source: Source, data: Data) -> tuple[tuple[float, float, float], int]:
    """The median distance of slices, rows and columns in mm, and the number of volumes that state it; of an examination its first sequence
    counts. Volumes that cannot be read do not count, nor those with few slices, such as localizers, which are left out. Raises UserError
    where no volume states its spacing."""
    grids = volume_grids(source, source.records, data)
    found = [grid.spacing_mm for grid in grids if grid.spacing_mm and min(grid.shape) >= data.min_slices]
    if not found:
        raise UserError(f"data.spacing_mm=median: no volume of {data.path} states the size of its voxels. Write three numbers, or none.")
    slices, rows, columns = np.median(found, axis=0).round(_DIGITS).tolist()
    return (slices, rows, columns), len(found)
