"""Pictures inside a Parquet file: what is damaged is a fault of its rows alone."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medssl.config import Limits
from medssl.data.readers import parquet
from medssl.errors import ReadError

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 9, 11), np.uint8)


def write(path: Path, empty: int = -1) -> Path:
    """Groups of two rows, whose cells are PNG files, but for the one that is `empty`."""
    cells = []
    for n, picture in enumerate(PICTURES):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        cells.append(None if n == empty else buffer.getvalue())
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary())}), path, row_group_size=2)
    return path


def read(file: Path, index: int, **limits: int) -> np.ndarray:
    reader = parquet.build(parquet.Config(limits=Limits(**limits)))
    return np.rint(reader.read(Path(f"{file}#image"), index).pixels[0] * 255)


def test_rows_are_found_in_their_groups_in_any_order(tmp_path: Path) -> None:
    reader = parquet.build(parquet.Config())
    file = Path(f"{write(tmp_path / 'a.parquet')}#image")
    for index in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(np.rint(reader.read(file, index).pixels[0] * 255), PICTURES[index])


@pytest.mark.parametrize(("index", "reason"), [(5, "no_such_row"), (-1, "no_such_row"), (1, "empty")])
def test_rows_that_are_not_there_or_empty_are_refused(tmp_path: Path, index: int, reason: str) -> None:
    with pytest.raises(ReadError, match=f"^{reason}: "):
        read(write(tmp_path / "a.parquet", empty=1), index)


def test_a_damaged_file_and_a_group_beyond_the_memory_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet")
    with pytest.raises(ReadError, match=r"^too_big: "):
        read(file, 0, memory_bytes=100)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ReadError, match=r"^truncated: "):
        read(file, 0)
