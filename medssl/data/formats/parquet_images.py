"""Parquet files that hold the images themselves, as the Hugging Face Hub stores data sets: a column of struct<bytes, path>, or of bytes."""

import json
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

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


def _holds_files(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_struct(kind):
        return any(kind.field(n).name == "bytes" and _is_bytes(kind.field(n).type) for n in range(kind.num_fields))
    return _is_bytes(kind)


def _is_bytes(kind: pyarrow.DataType) -> bool:
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))
