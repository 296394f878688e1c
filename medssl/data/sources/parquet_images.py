"""Parquet files with the images inside, as the Hugging Face Hub stores data sets: one file, or a folder of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow
from pyarrow import parquet
from pydantic import Field

from medssl.config import Limits
from medssl.data import contents, walk
from medssl.data.formats.parquet_images import class_names, image_column, read_columns
from medssl.data.tables import TableConfig, parse_split, tidy_labels
from medssl.data.tables.columns import normalise_name, role_of_name
from medssl.data.tables.reading import Table
from medssl.data.tables.resolving import understand_rows
from medssl.errors import UserError
from medssl.types import Record, Source

_SUFFIX = ".parquet"
_SAMPLE = 4
_MAX_ROWS = 5_000_000  # of one file


class Config(TableConfig):
    name: str = "parquet_images"
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


def recognises(data: str) -> bool:
    """A Parquet file with a column of images; or a folder with such files and without image files."""
    path = Path(data).expanduser()
    if path.is_file():
        return path.suffix.lower() == _SUFFIX and image_column(path) != ""
    if not path.is_dir():
        return False
    files = [path / found.locator for found in walk.list_files(path) if not found.reason and found.locator.lower().endswith(_SUFFIX)]
    return any(map(image_column, files[:_SAMPLE])) and not contents.kind_of_folder(path)


def build(config: Config, data: str) -> Source:
    """One record for each row, with the labels, patients and splits of the other columns, which are understood as those of any table.
    Numbers of classes become the names that the Hub's metadata state. Without a column for it, the split is that of the file's name or
    folder. Raises UserError where there is no image, and where the meaning of a column is not certain."""
    path = Path(data).expanduser()
    root = path.parent.resolve() if path.is_file() else walk.resolve_folder(data)
    names = [path.name] if path.is_file() else [found.locator for found in walk.list_files(root) if not found.reason]
    files = {name: column for name in names if name.lower().endswith(_SUFFIX) and (column := image_column(root / name))}
    if not files:
        raise UserError(f"There is no Parquet file with a column of images below {data}. Check --data.")
    shards = defaultdict[tuple[str, ...], list[str]](list)  # by the names of their columns
    for name, column in files.items():
        shards[tuple(other for other in parquet.read_schema(root / name).names if other != column)].append(name)
    records, notes = list[Record](), list[str]()
    for header, group in shards.items():
        found, more = _records(root, {name: files[name] for name in group}, header, config)
        records += found
        notes += more
    if not records:
        raise UserError(f"The Parquet files below {data} have no rows. Check --data.")
    records, label_notes = tidy_labels(records)
    if any(record.split for record in records):
        splits = Counter(record.split or "no split" for record in records)
        notes.append("splits: " + ", ".join(f"{split} {number}" for split, number in splits.items()))
    notes = [f"{len(records)} images inside {len(files)} Parquet files", *dict.fromkeys([*notes, *label_notes])]
    return Source("parquet_images", root, tuple(records), tuple(notes))


def _records(root: Path, files: Mapping[str, str], header: Sequence[str], config: Config) -> tuple[list[Record], list[str]]:
    """A record for each row of files with these columns beside the images, and notes. `files`: {locator: the column with the images}."""
    records, cells, classes = list[Record](), [list[str]() for _ in header], set[str]()
    for name, column in files.items():
        file = root / name
        split, rows, names = _split_of_file(name), parquet.ParquetFile(file).metadata.num_rows, class_names(file)
        if rows > _MAX_ROWS:
            raise UserError(f"{name} has {rows} rows, the most are {_MAX_ROWS}. Is the file damaged? Divide it into several files.")
        table = read_columns(file, name, header, config.limits.memory_bytes) if header else None
        for of_column, each in zip(cells, header, strict=True):
            of_column += _as_text(table, each, names.get(each, [])) if table else []
        classes |= {each for each in names.keys() & set(header) if role_of_name(each) != "label"}
        records += [Record(f"{name}#{column}", "parquet", row, split=split) for row in range(rows)]
    named = config.model_copy(update={"labels": (*config.labels, *sorted(classes.difference(config.labels)))})
    whole = Table("the Parquet file", root / next(iter(files)), list(header), list(cells), range(1, len(records) + 1))
    understanding = understand_rows(whole, named)
    return [
        replace(understanding.apply(replace(record, locator=str(row))), locator=record.locator) for row, record in enumerate(records)
    ], understanding.notes


def _as_text(table: pyarrow.Table, column: str, classes: list[str]) -> list[str]:
    """The cells as text, "" where they are empty or of a type that is no text; numbers of classes as their names."""
    try:
        values = table[column].cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowNotImplementedError:
        return [""] * table.num_rows
    return [classes[int(value)] if classes and (value or "").isdecimal() and int(value) < len(classes) else value or "" for value in values]


def _split_of_file(name: str) -> str | None:
    """The split that the name of a shard states, as in data/train-00000-of-00001.parquet or test/0.parquet."""
    parts = [*Path(name).parts[:-1], Path(name).name.split(".")[0].split("-")[0]]
    return next((split for part in reversed(parts) if (split := parse_split(normalise_name(part)))), None)
