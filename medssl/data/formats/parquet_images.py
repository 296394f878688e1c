"""Parquet files that hold the images themselves, as the Hugging Face Hub stores data sets: a column of struct<bytes, path>, or of bytes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from medssl.errors import UserError

_NAMES = ("image", "img", "picture", "scan")


def image_column(file: Path) -> str:
    """The name of the column with images, by the schema alone; "" where there is none, or where the file cannot be read."""
    try:
        schema = parquet.read_schema(file)
    except (OSError, pyarrow.ArrowException):
        return ""
    columns = [field.name for field in schema if _holds_files(field.type)]
    named = [name for name in columns if name.lower() in _NAMES]
    return (named or columns or [""])[0] if named or any(pyarrow.types.is_struct(schema.field(name).type) for name in columns) else ""


def class_names(file: Path) -> dict[str, list[str]]:
    """{column: the names of its classes, by their numbers} as the Hub's metadata state them."""
    metadata = parquet.read_schema(file).metadata or {}
    try:
        features: dict[str, Any] = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: list(feature["names"]) for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def read_columns(file: Path, name: str, columns: Sequence[str], max_bytes: int) -> pyarrow.Table:
    """The columns of a Parquet file. `name`: the file in messages. Raises UserError where they take more than `max_bytes` of memory: by the
    file's own words before anything is read, and of texts that are stored once and repeated, before they are written out."""
    with parquet.ParquetFile(file, read_dictionary=_texts(file, columns)) as content:
        groups = [content.metadata.row_group(number) for number in range(content.num_row_groups)]
        parts = [group.column(number) for group in groups for number in range(group.num_columns)]
        claimed = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
        if claimed > max_bytes:
            raise _too_big(name, claimed, max_bytes)
        table = content.read(columns=list(columns))
    unpacked = sum(_bytes_in_full(chunk) for column in table.columns for chunk in column.chunks)
    if unpacked > max_bytes:
        raise _too_big(name, unpacked, max_bytes)
    return table


def _texts(file: Path, columns: Sequence[str]) -> list[str]:
    """Those of the columns that hold text."""
    kinds = {field.name: field.type for field in parquet.read_schema(file)}
    return [name for name in columns if pyarrow.types.is_string(kinds[name]) or pyarrow.types.is_large_string(kinds[name])]


def _bytes_in_full(chunk: pyarrow.Array) -> int:
    """The bytes of the values where each is written out."""
    if not isinstance(chunk, pyarrow.DictionaryArray):
        return chunk.nbytes
    lengths = np.array([len(value or "") for value in chunk.dictionary.to_pylist()])
    return int(lengths[chunk.indices.drop_null().to_numpy()].sum()) if len(lengths) else 0


def _too_big(name: str, found: int, most: int) -> UserError:
    return UserError(
        f"{name}: its columns take {found} bytes when they are unpacked, more than data.limits.memory_bytes = {most} (too_big). Write "
        "fewer rows into a file, or leave out columns that are not needed."
    )


def _holds_files(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_struct(kind):
        return any(kind.field(n).name == "bytes" and _is_bytes(kind.field(n).type) for n in range(kind.num_fields))
    return _is_bytes(kind)


def _is_bytes(kind: pyarrow.DataType) -> bool:
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))
