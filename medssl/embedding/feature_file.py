"""A file of features: .parquet with the columns key, patient, labels and features, or .npy with the same columns in a .csv beside it.

The metadata say which encoder made the features: the entry "medssl" in the schema of a .parquet file, and a .json file beside an .npy file.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float
from numpy.lib import format as npy
from pyarrow import parquet

from medssl.data.store import csv_text
from medssl.errors import UserError
from medssl.files import atomic_file, write_atomically

FORMAT = "medssl-features-1"
SUFFIXES = (".parquet", ".npy")
FEATURES = "features"
_ENTRY = b"medssl"
Blocks = Iterable[Float[np.ndarray, "rows d"]]


def files_beside(out: Path) -> tuple[Path, ...]:
    """The files that are written beside `out`. Raises UserError for another suffix than .parquet and .npy."""
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: the name must end with {' or '.join(SUFFIXES)}.")
    return () if out.suffix == ".parquet" else (out.with_suffix(".csv"), out.with_suffix(".json"))


def write_features(out: Path, table: pd.DataFrame, blocks: Blocks, width: int, dtype: str, facts: Mapping[str, Any]) -> None:
    """Write the file, and what belongs beside it. `out` gets its name when all of it is written. `table`: one row for each row of
    features; `blocks`: the features [rows, `width`] in that order, one block in memory at a time; `dtype`: "float32" or "float16";
    `facts`: the metadata.

    Raises UserError where the disk is full, or where a feature is too large for `dtype`.
    """
    facts = {"format": FORMAT, "dtype": dtype, "num_features": width, **facts}
    converted = (_convert(block, dtype) for block in blocks)
    if out.suffix == ".parquet":
        with atomic_file(out) as file:
            _write_parquet(file, table, converted, width, dtype, facts)
        return
    names, description = files_beside(out)
    write_atomically(names, csv_text([list(table), *table.astype(str).to_numpy().tolist()]).encode())
    write_atomically(description, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
    with atomic_file(out) as file:
        header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (len(table), width)}
        npy.write_array_header_1_0(file, header)
        for block in converted:
            file.write(block.tobytes())


@dataclass(frozen=True)
class FeatureFile:
    """`table`: the columns but the features, one row for each row of features. `facts`: the metadata."""

    path: Path
    table: pd.DataFrame
    facts: dict[str, Any]

    def blocks(self) -> Iterator[Float[np.ndarray, "rows d"]]:
        """The features as float32, one row group in memory at a time."""
        with parquet.ParquetFile(self.path) as file:
            for number in range(file.num_row_groups):
                column = file.read_row_group(number, [FEATURES]).column(FEATURES).combine_chunks()
                yield column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(column), -1)


def open_features(path: Path) -> FeatureFile:
    """A .parquet file that `medssl embed` wrote. Raises UserError for any other file."""
    try:
        with parquet.ParquetFile(path) as file:
            facts = json.loads((file.schema_arrow.metadata or {})[_ENTRY])
            names = [name for name in file.schema_arrow.names if name != FEATURES]
            if facts["format"] == FORMAT and file.num_row_groups:
                return FeatureFile(path, file.read(names).to_pandas(), facts)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        pass
    raise UserError(f"{path} is no file of features. Name a .parquet file that `medssl embed` wrote.")


def _write_parquet(file: BinaryIO, table: pd.DataFrame, blocks: Blocks, width: int, dtype: str, facts: Mapping[str, Any]) -> None:
    """One row group for each block."""
    kind = pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), width)
    columns = [(str(name), pa.int32() if values.dtype.kind == "i" else pa.string()) for name, values in table.items()]
    schema = pa.schema([*columns, (FEATURES, kind)], metadata={_ENTRY: json.dumps(facts)})
    first = 0
    text: Any = [name for name, _ in columns]  # equal numbers among features are rare
    with parquet.ParquetWriter(file, schema, use_dictionary=text) as writer:
        for block in blocks:
            rows = table.iloc[first : first + len(block)]
            arrays = [pa.array(rows[name].to_numpy(), kind_of_name) for name, kind_of_name in columns]
            features = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), width)
            writer.write_table(pa.Table.from_arrays([*arrays, features], schema=schema))
            first += len(block)
    assert first == len(table), "a row of features for each row of the table"


def _convert(block: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        converted = block.astype(dtype)
    if not np.isfinite(converted).all():
        raise UserError(f"A feature is too large for {dtype}. Use --dtype float32.")
    return converted
